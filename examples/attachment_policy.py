"""Take programs out of mail, refuse zip files that hold some, and say so in the message."""

from aiomilter import Context, Reply, Response, run
from aiomilter.message import Message, MessageMilter, Part, ProtectedError, StructureError

PROGRAMS = {"bat", "cmd", "com", "exe", "hta", "jar", "js", "lnk", "msi", "pif", "ps1", "scr", "vbs", "wsf"}
REFUSED = Reply(550, "5.7.1", "This attachment is not accepted here")


def is_program(name: str) -> bool:
    return name.rstrip(". ").rpartition(".")[2].lower() in PROGRAMS


async def holds_program(part: Part) -> bool:
    """Whether a zip file holds a program, or cannot be looked into."""
    return part.is_zip and (any(map(is_program, await part.zip_names())) or part.zip_problem != "")


class AttachmentPolicy(MessageMilter):
    max_size = 50 * 2**20

    async def message(self, ctx: Context, message: Message) -> Response | None:
        removed = []
        for part in message.attachments():
            if await holds_program(part):
                return REFUSED
            if any(map(is_program, part.filenames)):
                removed.append(part.filename)
                try:
                    part.replace(f"{part.filename} was removed.\n", content_type="text/plain")
                except (StructureError, ProtectedError):  # it cannot be taken out safely
                    return REFUSED
        if removed:
            message.headers.set_text("X-Removed", ", ".join(removed))
        return None if message.complete else REFUSED


if __name__ == "__main__":
    run(AttachmentPolicy, "inet:8890@127.0.0.1")
