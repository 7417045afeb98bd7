/*
 * A filter on libmilter that does everything a filter may do, as the test's address, header or message asks for.
 * Arguments: path of the socket, "reply" or "noreply".
 */
#include <libmilter/mfapi.h>
#include <stdlib.h>
#include <string.h>

struct seen {
    char letters[256];
    sfsistat body;
};

static int noreply;

static struct seen *note(SMFICTX *ctx, char letter)
{
    struct seen *seen = smfi_getpriv(ctx);
    size_t length;

    if (seen == NULL) {
        seen = calloc(1, sizeof *seen);
        smfi_setpriv(ctx, seen);
    }
    length = strlen(seen->letters);
    if (length + 1 < sizeof seen->letters)
        seen->letters[length] = letter;
    return seen;
}

static sfsistat answer(SMFICTX *ctx, char letter)
{
    note(ctx, letter);
    return noreply ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

static sfsistat on_negotiate(SMFICTX *ctx, unsigned long f0, unsigned long f1, unsigned long f2, unsigned long f3,
    unsigned long *pf0, unsigned long *pf1, unsigned long *pf2, unsigned long *pf3)
{
    char macros[] = "i {client_addr}";

    *pf0 = f0;
    *pf1 = SMFIP_SKIP;
    if (noreply)
        *pf1 |= SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NR_RCPT | SMFIP_NR_DATA | SMFIP_NR_UNKN |
            SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY;
    *pf2 = *pf3 = 0;
    smfi_setsymlist(ctx, SMFIM_ENVRCPT, macros);
    return SMFIS_CONTINUE;
}

static sfsistat on_connect(SMFICTX *ctx, char *host, _SOCK_ADDR *address)
{
    return answer(ctx, 'C');
}

static sfsistat on_helo(SMFICTX *ctx, char *name)
{
    return answer(ctx, 'H');
}

static sfsistat on_mail(SMFICTX *ctx, char **args)
{
    if (strcmp(args[0], "<accept@example.org>") == 0)
        return SMFIS_ACCEPT;
    return answer(ctx, 'M');
}

static sfsistat on_rcpt(SMFICTX *ctx, char **args)
{
    if (strcmp(args[0], "<reject@example.org>") == 0)
        return SMFIS_REJECT;
    if (strcmp(args[0], "<tempfail@example.org>") == 0)
        return SMFIS_TEMPFAIL;
    if (strcmp(args[0], "<reply@example.org>") == 0) {
        smfi_setmlreply(ctx, "550", "5.7.1", "no 100%% sure", "second line", NULL);
        return SMFIS_REJECT;
    }
    return answer(ctx, 'R');
}

static sfsistat on_data(SMFICTX *ctx)
{
    return answer(ctx, 'T');
}

static sfsistat on_unknown(SMFICTX *ctx, const char *line)
{
    return answer(ctx, 'U');
}

static sfsistat on_header(SMFICTX *ctx, char *name, char *value)
{
    struct seen *seen = smfi_getpriv(ctx);

    if (strcmp(name, "X-Do") == 0 && strcmp(value, "discard") == 0)
        return SMFIS_DISCARD;
    if (strcmp(name, "X-Do") == 0 && strcmp(value, "skip") == 0)
        seen->body = SMFIS_SKIP;
    return answer(ctx, 'L');
}

static sfsistat on_eoh(SMFICTX *ctx)
{
    return answer(ctx, 'N');
}

static sfsistat on_body(SMFICTX *ctx, unsigned char *octets, size_t length)
{
    struct seen *seen = note(ctx, 'B');

    if (seen->body == SMFIS_SKIP)
        return SMFIS_SKIP;
    return noreply ? SMFIS_NOREPLY : SMFIS_CONTINUE;
}

static sfsistat on_eom(SMFICTX *ctx)
{
    struct seen *seen = note(ctx, 'E');
    int failed = 0;

    failed |= smfi_progress(ctx);
    failed |= smfi_addheader(ctx, "X-Seen", seen->letters);
    /* What was asked for with the recipients is still known here. */
    failed |= smfi_addheader(ctx, "X-Client", smfi_getsymval(ctx, "{client_addr}"));
    failed |= smfi_addheader(ctx, "X-Folded", "one\n\ttwo");
    failed |= smfi_insheader(ctx, 0, "X-Top", "inserted");
    failed |= smfi_chgheader(ctx, "X-A", 2, NULL);
    failed |= smfi_chgheader(ctx, "X-A", 1, "ONE");
    failed |= smfi_chgfrom(ctx, "<new@example.org>", "RET=HDRS");
    failed |= smfi_addrcpt(ctx, "<dave@example.org>");
    failed |= smfi_addrcpt_par(ctx, "<erin@example.org>", "NOTIFY=NEVER");
    failed |= smfi_delrcpt(ctx, "<bob@example.org>");
    failed |= smfi_quarantine(ctx, "why");
    failed |= smfi_replacebody(ctx, (unsigned char *)"new ", 4);
    failed |= smfi_replacebody(ctx, (unsigned char *)"body\r\n", 6);
    return failed ? SMFIS_TEMPFAIL : SMFIS_CONTINUE;
}

static sfsistat on_abort(SMFICTX *ctx)
{
    note(ctx, 'A');
    return SMFIS_CONTINUE;
}

static sfsistat on_close(SMFICTX *ctx)
{
    free(smfi_getpriv(ctx));
    smfi_setpriv(ctx, NULL);
    return SMFIS_CONTINUE;
}

int main(int argc, char **argv)
{
    struct smfiDesc filter = {
        .xxfi_name = "everything",
        .xxfi_version = SMFI_VERSION,
        .xxfi_flags = SMFI_CURR_ACTS,
        .xxfi_connect = on_connect,
        .xxfi_helo = on_helo,
        .xxfi_envfrom = on_mail,
        .xxfi_envrcpt = on_rcpt,
        .xxfi_header = on_header,
        .xxfi_eoh = on_eoh,
        .xxfi_body = on_body,
        .xxfi_eom = on_eom,
        .xxfi_abort = on_abort,
        .xxfi_close = on_close,
        .xxfi_unknown = on_unknown,
        .xxfi_data = on_data,
        .xxfi_negotiate = on_negotiate,
    };

    if (argc != 3)
        return 2;
    noreply = strcmp(argv[2], "noreply") == 0;
    if (smfi_register(filter) != MI_SUCCESS || smfi_setconn(argv[1]) != MI_SUCCESS)
        return 1;
    return smfi_main() == MI_SUCCESS ? 0 : 1;
}
