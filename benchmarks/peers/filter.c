/*
 * The measured filters on libmilter: filter SOCKET typical|noop|waiting|sender|end, until SIGTERM.
 *
 *   cc -O2 -o filter filter.c -lmilter -lpthread
 */
#include <libmilter/mfapi.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int quiet; /* header, body and data get no answer */
static int edits; /* eom adds a field */
static int waits; /* MAIL takes 50 ms */

static sfsistat on_connect(SMFICTX *ctx, char *host, _SOCK_ADDR *address) { return SMFIS_CONTINUE; }
static sfsistat on_helo(SMFICTX *ctx, char *name) { return SMFIS_CONTINUE; }
static sfsistat on_mail(SMFICTX *ctx, char **args)
{
    if (waits)
        usleep(50000);
    return SMFIS_CONTINUE;
}
static sfsistat on_rcpt(SMFICTX *ctx, char **args) { return SMFIS_CONTINUE; }
static sfsistat on_data(SMFICTX *ctx) { return quiet ? SMFIS_NOREPLY : SMFIS_CONTINUE; }
static sfsistat on_header(SMFICTX *ctx, char *name, char *value) { return quiet ? SMFIS_NOREPLY : SMFIS_CONTINUE; }
static sfsistat on_eoh(SMFICTX *ctx) { return SMFIS_CONTINUE; }
static sfsistat on_body(SMFICTX *ctx, unsigned char *chunk, size_t size) { return quiet ? SMFIS_NOREPLY : SMFIS_CONTINUE; }
static sfsistat on_eom(SMFICTX *ctx)
{
    if (edits)
        smfi_addheader(ctx, "X-Seen", "yes");
    return SMFIS_CONTINUE;
}
static sfsistat on_negotiate(SMFICTX *ctx, unsigned long actions, unsigned long protocol, unsigned long f2, unsigned long f3,
                             unsigned long *wanted, unsigned long *steps, unsigned long *w2, unsigned long *w3)
{
    *wanted = SMFIF_ADDHDRS;
    *steps = SMFIP_NOUNKNOWN | (quiet ? SMFIP_NR_HDR | SMFIP_NR_BODY | SMFIP_NR_DATA : 0);
    *w2 = *w3 = 0;
    return SMFIS_CONTINUE;
}

int main(int argc, char **argv)
{
    struct smfiDesc filter = {
        .xxfi_name = "measured", .xxfi_version = SMFI_VERSION, .xxfi_flags = SMFIF_ADDHDRS, .xxfi_connect = on_connect,
        .xxfi_helo = on_helo, .xxfi_envfrom = on_mail, .xxfi_envrcpt = on_rcpt, .xxfi_header = on_header,
        .xxfi_eoh = on_eoh, .xxfi_body = on_body, .xxfi_eom = on_eom, .xxfi_data = on_data,
        .xxfi_negotiate = on_negotiate,
    };

    if (argc != 3)
        return 2;
    if (strcmp(argv[2], "sender") == 0 || strcmp(argv[2], "end") == 0) {
        /* libmilter has the MTA leave out what has no callback */
        struct smfiDesc few = {
            .xxfi_name = "measured", .xxfi_version = SMFI_VERSION, .xxfi_flags = SMFIF_ADDHDRS, .xxfi_eom = on_eom,
            .xxfi_envfrom = strcmp(argv[2], "sender") == 0 ? on_mail : NULL,
        };
        filter = few;
    } else
        edits = quiet = strcmp(argv[2], "noop") != 0;
    waits = strcmp(argv[2], "waiting") == 0;
    if (smfi_register(filter) == MI_FAILURE || smfi_setconn(argv[1]) == MI_FAILURE)
        return 1;
    smfi_setbacklog(1024);
    return smfi_main() == MI_SUCCESS ? 0 : 1;
}
