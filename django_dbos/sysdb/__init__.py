"""The system database: every durable change is one short transaction in here.

    vendor      what PostgreSQL and SQLite say differently, and what to do when a database is away
    journal     how checkpoints and outcomes are written, under (executor, epoch)
    workflows   submit, attach, find an outcome
    bulk        submit many
    due         what the clock decides: ripen what was delayed, cancel what ran out of time
    steps       load what is recorded
    queues      declare, claim
    schedules   declare, fire
    executors   register, beat, recover, release, prune
    control     cancel, resume, delete, delay, priority, attributes
    forks       fork, rewind
    listing     filters, pages, aggregates of them

The hot statements (submit, claim, journal) are written out in SQL; everything else is ORM.
"""
