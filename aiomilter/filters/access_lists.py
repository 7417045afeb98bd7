"""What the settings of ``access`` list, as it is looked up."""

from aiomilter.filters.access_rules import names_of
from aiomilter.filters.access_settings import AccessSettings
from aiomilter.filters.domains import domain_name, key
from aiomilter.filters.recipients import Exempt
from aiomilter.filters.site import Network, Site, networks_of

__all__ = ["AccessLists"]


class AccessLists:
    """What is listed in settings, as it is looked up: made once, however many connections there are.

    Raises:
        TypeError, ValueError: A setting is not as described; the text begins with its name.
    """

    def __init__(self, settings: AccessSettings, site: Site) -> None:
        self.exempt: Exempt = Exempt(settings.exempt_recipients, site)
        self.refused: Exempt = Exempt(settings.no_recipients, site, "no_recipients")
        self.own_names: frozenset[str] = names_of("helo_own", settings.helo_own)
        self.inside_only: frozenset[str] = names_of("inside_only_recipients", settings.inside_only_recipients)
        names_of("recipients", list(settings.recipients))
        self.valid: dict[str | None, set[str]] = {
            domain_name(name): {each.lower() for each in given} for name, given in settings.recipients.items()
        }
        self.null_senders: tuple[Network, ...] = networks_of("null_sender_from", settings.null_sender_from)
        try:
            self.logins: dict[str, frozenset[str]] = {
                login: frozenset(map(key, given)) for login, given in settings.login_sender.items()
            }
        except ValueError as error:
            raise ValueError(f"login_sender: {error}") from None
