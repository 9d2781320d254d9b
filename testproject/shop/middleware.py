"""The shop's pages run no inline script and load nothing from elsewhere, and tell the browser so."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

POLICY = "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"


def content_security_policy(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[..., HttpResponse]:
    """Adds the policy to the pages of the shop."""

    def middleware(request: HttpRequest) -> HttpResponse:
        response = get_response(request)
        if request.resolver_match is not None and request.resolver_match.app_name == "shop":
            response.headers["Content-Security-Policy"] = POLICY
        return response

    return middleware
