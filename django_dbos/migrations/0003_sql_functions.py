"""On PostgreSQL any SQL client can enqueue a workflow or send it a message, with plain JSON."""

from typing import Any

from django.db import migrations

# The values of plain JSON are stored as they are; only an object that looks like one of our tags is put in other words.
_TYPED_JSON = """
CREATE OR REPLACE FUNCTION dbos_typed_json(value jsonb, depth integer DEFAULT 0) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT SET search_path FROM CURRENT AS $$
BEGIN
    IF depth >= 100 AND jsonb_typeof(value) IN ('array', 'object') THEN
        RAISE EXCEPTION 'this JSON is nested more than 100 levels deep' USING ERRCODE = 'program_limit_exceeded';
    END IF;
    CASE jsonb_typeof(value)
    WHEN 'array' THEN
        RETURN (SELECT COALESCE(jsonb_agg(dbos_typed_json(item, depth + 1) ORDER BY place), '[]')
                FROM jsonb_array_elements(value) WITH ORDINALITY AS items (item, place));
    WHEN 'object' THEN
        IF jsonb_exists(value, '$type') THEN
            RETURN jsonb_build_object('$type', 'dict', 'value', (
                SELECT jsonb_agg(jsonb_build_array(key, dbos_typed_json(item, depth + 1)))
                FROM jsonb_each(value) AS pairs (key, item)));
        END IF;
        RETURN (SELECT COALESCE(jsonb_object_agg(key, dbos_typed_json(item, depth + 1)), '{}')
                FROM jsonb_each(value) AS pairs (key, item));
    ELSE
        RETURN value;
    END CASE;
END
$$
"""

# As UUID 7: the time in milliseconds comes first, so that new rows lie side by side in the index.
_NEW_ID = """
CREATE OR REPLACE FUNCTION dbos_new_id() RETURNS text
LANGUAGE sql VOLATILE SET search_path FROM CURRENT AS $$
    SELECT encode(set_bit(set_bit(overlay(uuid_send(gen_random_uuid())
        PLACING substring(int8send((extract(epoch FROM clock_timestamp()) * 1000)::bigint) FROM 3)
        FROM 1 FOR 6), 52, 1), 53, 1), 'hex')::uuid::text
$$
"""

_SHORT_TEXT = """
CREATE OR REPLACE FUNCTION dbos_short_text(what text, value text, shortest integer DEFAULT 0) RETURNS text
LANGUAGE plpgsql IMMUTABLE SET search_path FROM CURRENT AS $$
BEGIN
    IF value IS NULL OR length(value) NOT BETWEEN shortest AND 255 THEN
        RAISE EXCEPTION '% is a text of % to 255 characters, not %', what, shortest, quote_nullable(left(value, 300))
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    RETURN value;
END
$$
"""

_ENQUEUE_WORKFLOW = """
CREATE OR REPLACE FUNCTION dbos_enqueue_workflow(
    workflow_name text,
    queue_name text,
    positional_args jsonb DEFAULT '[]',
    named_args jsonb DEFAULT '{}',
    workflow_id text DEFAULT NULL,
    application_version text DEFAULT NULL,
    timeout_seconds double precision DEFAULT NULL,
    deduplication_id text DEFAULT NULL,
    priority integer DEFAULT 0,
    partition_key text DEFAULT NULL,
    delay_seconds double precision DEFAULT NULL,
    authenticated_user text DEFAULT NULL,
    authenticated_roles jsonb DEFAULT NULL,
    class_name text DEFAULT NULL,
    instance_name text DEFAULT NULL,
    application_name text DEFAULT NULL,
    attributes jsonb DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    p_name text := dbos_short_text('workflow_name', workflow_name, 1);
    p_queue text := dbos_short_text('queue_name', queue_name);
    p_args jsonb := COALESCE(positional_args, '[]');
    p_kwargs jsonb := COALESCE(named_args, '{}');
    p_id text := dbos_short_text('workflow_id', COALESCE(workflow_id, dbos_new_id()), 1);
    p_version text := dbos_short_text('application_version', COALESCE(application_version, ''));
    p_timeout double precision := timeout_seconds;
    p_deduplication text := dbos_short_text('deduplication_id', COALESCE(deduplication_id, ''));
    p_priority integer := COALESCE(priority, 0);
    p_partition text := dbos_short_text('partition_key', COALESCE(partition_key, ''));
    p_delay double precision := COALESCE(delay_seconds, 0);
    p_user text := dbos_short_text('authenticated_user', COALESCE(authenticated_user, ''));
    p_roles jsonb := COALESCE(authenticated_roles, '[]');
    p_class text := dbos_short_text('class_name', COALESCE(class_name, ''));
    p_instance text := dbos_short_text('instance_name', COALESCE(instance_name, ''));
    p_application text := dbos_short_text('application_name', COALESCE(application_name, ''));
    p_attributes jsonb := COALESCE(attributes, '{}');
    existing_id text;
    existing_name text;
BEGIN
    IF jsonb_typeof(p_args) <> 'array' OR jsonb_typeof(p_kwargs) <> 'object' THEN
        RAISE EXCEPTION 'positional_args is a JSON array and named_args a JSON object'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF jsonb_typeof(p_roles) <> 'array' OR jsonb_typeof(p_attributes) <> 'object' THEN
        RAISE EXCEPTION 'authenticated_roles is a JSON array and attributes a JSON object'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF p_priority < 0 OR p_delay < 0 OR p_delay > 1e9 OR p_timeout <= 0 OR p_timeout > 1e9 THEN
        RAISE EXCEPTION 'priority and delay_seconds cannot be negative, timeout_seconds is more than 0'
            USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF p_partition = '' AND EXISTS (
        SELECT 1 FROM dbos_queue q, jsonb_each(q.declared || q.overrides) AS limits (name, value)
        WHERE q.name = p_queue AND limits.name LIKE 'partition\\_%' AND limits.value NOT IN ('null', 'false')
    ) THEN
        RAISE EXCEPTION 'queue % has limits per partition: give a partition_key', quote_literal(p_queue)
            USING ERRCODE = 'invalid_parameter_value';
    END IF;

    LOOP
        INSERT INTO dbos_workflow (
            id, name, class_name, instance_name, status, inputs, serializer, queue_name, priority, deduplication_id,
            partition_key, delay_until, application_version, application_name, timeout, authenticated_user,
            authenticated_roles, attributes)
        VALUES (
            p_id, p_name, p_class, p_instance, CASE WHEN p_delay > 0 THEN 'DELAYED' ELSE 'ENQUEUED' END,
            jsonb_build_object('args', dbos_typed_json(p_args), 'kwargs', dbos_typed_json(p_kwargs))::text,
            'json', p_queue, p_priority, p_deduplication, p_partition,
            CASE WHEN p_delay > 0 THEN statement_timestamp() + p_delay * INTERVAL '1 second' END,
            p_version, p_application, p_timeout, p_user, p_roles, p_attributes)
        ON CONFLICT DO NOTHING;
        IF FOUND THEN
            PERFORM pg_notify('dbos', 'work');
            RETURN p_id;
        END IF;

        SELECT w.id, w.name INTO existing_id, existing_name FROM dbos_workflow w WHERE w.id = p_id;
        IF NOT FOUND THEN
            SELECT w.id, w.name INTO existing_id, existing_name FROM dbos_workflow w
            WHERE w.queue_name = p_queue AND w.deduplication_id = p_deduplication AND p_deduplication <> '';
        END IF;
        IF FOUND THEN
            IF existing_name <> p_name THEN
                RAISE EXCEPTION 'workflow % belongs to %, so it cannot start %: choose another id',
                    quote_literal(existing_id), quote_literal(existing_name), quote_literal(p_name)
                    USING ERRCODE = 'unique_violation';
            END IF;
            RETURN existing_id;
        END IF;
        -- Who had the deduplication id has ended between the two statements: it is free now.
    END LOOP;
END
$$
"""

_SEND_MESSAGE = """
CREATE OR REPLACE FUNCTION dbos_send_message(
    destination_id text,
    message jsonb,
    topic text DEFAULT '',
    idempotency_key text DEFAULT NULL
) RETURNS text
LANGUAGE plpgsql VOLATILE SET search_path FROM CURRENT AS $$
#variable_conflict use_column
DECLARE
    p_destination text := dbos_short_text('destination_id', destination_id, 1);
    p_topic text := dbos_short_text('topic', COALESCE(topic, ''));
    p_key text := dbos_short_text('idempotency_key', COALESCE(idempotency_key, ''));
    p_payload text := dbos_typed_json(COALESCE(message, 'null'))::text;
    message_id text;
BEGIN
    PERFORM 1 FROM dbos_workflow w WHERE w.id = p_destination FOR KEY SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no workflow with the id %', quote_literal(p_destination)
            USING ERRCODE = 'foreign_key_violation';
    END IF;
    INSERT INTO dbos_message (id, destination_id, topic, payload, serializer, idempotency_key)
    VALUES (dbos_new_id(), p_destination, p_topic, p_payload, 'json', p_key)
    ON CONFLICT DO NOTHING
    RETURNING id INTO message_id;
    IF FOUND THEN
        PERFORM pg_notify('dbos', 'message:' || p_destination);
        RETURN message_id;
    END IF;
    SELECT m.id INTO message_id FROM dbos_message m
    WHERE m.destination_id = p_destination AND m.idempotency_key = p_key;
    RETURN message_id;
END
$$
"""

_FUNCTIONS = (_TYPED_JSON, _NEW_ID, _SHORT_TEXT, _ENQUEUE_WORKFLOW, _SEND_MESSAGE)
_DROPS = (
    "dbos_send_message(text, jsonb, text, text)",
    "dbos_enqueue_workflow(text, text, jsonb, jsonb, text, text, double precision, text, integer, text, "
    "double precision, text, jsonb, text, text, text, jsonb)",
    "dbos_short_text(text, text, integer)",
    "dbos_new_id()",
    "dbos_typed_json(jsonb, integer)",
)


def create(apps: Any, schema_editor: Any) -> None:
    """Create the functions, in the schema of the tables."""
    if schema_editor.connection.vendor == "postgresql":
        for function in _FUNCTIONS:
            schema_editor.execute(function, None)


def drop(apps: Any, schema_editor: Any) -> None:
    """Undo create()."""
    if schema_editor.connection.vendor == "postgresql":
        for signature in _DROPS:
            schema_editor.execute(f"DROP FUNCTION IF EXISTS {signature}", None)


class Migration(migrations.Migration):
    """See above."""

    dependencies = (("dbos", "0002_awaited_workflows"),)

    operations = (migrations.RunPython(create, drop),)
