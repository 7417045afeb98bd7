/*
 * A filter on libmilter that does what a script on its standard input says, and tells on its standard output what it is
 * called with; the script is described in script.py.  Argument: path of the socket.  It serves one connection.
 *
 * The functions of the C library through which libmilter reads are wrapped, so that a test need not guess from a silence
 * that a packet gets no answer: "= N" is written when libmilter has handled all of the N octets that have come.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <dlfcn.h>
#include <libmilter/mfapi.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_FIELDS 48
#define MAX_LINES 4096
#define ALL_NR (SMFIP_NR_CONN | SMFIP_NR_HELO | SMFIP_NR_MAIL | SMFIP_NR_RCPT | SMFIP_NR_DATA | SMFIP_NR_UNKN | \
    SMFIP_NR_HDR | SMFIP_NR_EOH | SMFIP_NR_BODY)

enum { CONNECT, HELO, MAIL, RCPT, DATA, HEADER, EOH, BODY, EOM, UNKNOWN, STEPS };

static const struct step {
    const char *name;
    unsigned long no, nr;
} steps[STEPS] = {
    { "connect", SMFIP_NOCONNECT, SMFIP_NR_CONN },
    { "helo", SMFIP_NOHELO, SMFIP_NR_HELO },
    { "mail", SMFIP_NOMAIL, SMFIP_NR_MAIL },
    { "rcpt", SMFIP_NORCPT, SMFIP_NR_RCPT },
    { "data", SMFIP_NODATA, SMFIP_NR_DATA },
    { "header", SMFIP_NOHDRS, SMFIP_NR_HDR },
    { "eoh", SMFIP_NOEOH, SMFIP_NR_EOH },
    { "body", SMFIP_NOBODY, SMFIP_NR_BODY },
    { "eom", 0, 0 },
    { "unknown", SMFIP_NOUNKNOWN, SMFIP_NR_UNKN },
};

struct line {
    int count;
    char *fields[MAX_FIELDS];
};

static struct line script[MAX_LINES];
static int lines;
static int calls[STEPS];
static int leading;

/* ------------------------------------------------------------------------------------------------ what is told */

/* One line a time, from whichever thread. */
static void tell(const char *head, int count, const char **fields, const size_t *sizes)
{
    static char text[1 << 20];
    size_t at = 0;
    int field;
    size_t n;

    at += sprintf(text, "%s", head);
    for (field = 0; field < count; field++) {
        text[at++] = '\t';
        for (n = 0; n < sizes[field]; n++) {
            unsigned char octet = fields[field][n];
            if (octet < 0x20 || octet > 0x7e || octet == '\\')
                at += sprintf(text + at, "\\x%02x", octet);
            else
                text[at++] = octet;
        }
    }
    text[at++] = '\n';
    if (write(1, text, at) != (ssize_t)at)
        _exit(3);
}

static void tell_strings(const char *head, int count, const char **fields)
{
    size_t sizes[MAX_FIELDS];
    int field;

    for (field = 0; field < count; field++)
        sizes[field] = strlen(fields[field]);
    tell(head, count, fields, sizes);
}

/* ------------------------------------------------------------------------------------------------- what is read */

static int peer = -1;
static unsigned long taken;

int accept(int fd, struct sockaddr *address, socklen_t *size)
{
    int (*next)(int, struct sockaddr *, socklen_t *) = dlsym(RTLD_NEXT, "accept");

    return peer = next(fd, address, size);
}

ssize_t read(int fd, void *octets, size_t size)
{
    ssize_t (*next)(int, void *, size_t) = dlsym(RTLD_NEXT, "read");
    ssize_t got = next(fd, octets, size);

    if (fd == peer && got > 0)
        taken += got;
    return got;
}

int poll(struct pollfd *sockets, nfds_t count, int timeout)
{
    int (*next)(struct pollfd *, nfds_t, int) = dlsym(RTLD_NEXT, "poll");
    char text[32];

    if (count == 1 && sockets->fd == peer && peer >= 0 && (sockets->events & POLLIN)) {
        int ready = next(sockets, count, 0);
        if (ready != 0)
            return ready;
        sprintf(text, "= %lu", taken);
        tell(text, 0, NULL, NULL);
    }
    return next(sockets, count, timeout);
}

int close(int fd)
{
    int (*next)(int) = dlsym(RTLD_NEXT, "close");
    int closed;

    if (fd != peer || peer < 0)
        return next(fd);
    peer = -1;
    closed = next(fd);
    tell("closed", 0, NULL, NULL);
    return closed;
}

/* ----------------------------------------------------------------------------------------------------- script */

/* Return the octets that a field stands for. */
static char *unescaped(const char *field)
{
    size_t size = strlen(field);
    char *octets, *to;

    if (field[0] == '\\' && field[1] == '*') {
        size = strtoul(field + 2, NULL, 10);
        octets = malloc(size + 1);
        memset(octets, 'x', size);
        octets[size] = '\0';
        return octets;
    }
    to = octets = malloc(size + 1);
    while (*field != '\0') {
        if (*field == '\\') {
            char digits[3] = { field[2], field[3], '\0' };
            *to++ = strtoul(digits, NULL, 16);
            field += 4;
        } else
            *to++ = *field++;
    }
    *to = '\0';
    return octets;
}

static void read_script(void)
{
    static char text[1 << 16];
    char *rest = text, *one, *field;

    text[fread(text, 1, sizeof text - 1, stdin)] = '\0';
    while ((one = strsep(&rest, "\n")) != NULL && lines < MAX_LINES) {
        struct line *line = &script[lines++];
        while ((field = strsep(&one, "\t")) != NULL && line->count < MAX_FIELDS)
            line->fields[line->count++] = unescaped(field);
    }
}

/* Return the next line after `line` (NULL: from the start) that begins with this word. */
static struct line *find(const char *word, struct line *line)
{
    for (line = line == NULL ? script : line + 1; line < script + lines; line++)
        if (strcmp(line->fields[0], word) == 0)
            return line;
    return NULL;
}

static int names(const char *word, const char *step)
{
    struct line *line = find(word, NULL);
    int field;

    for (field = 1; line != NULL && field < line->count; field++)
        if (strcmp(line->fields[field], step) == 0)
            return 1;
    return 0;
}

static int has(int step)
{
    return find("callbacks", NULL) == NULL || names("callbacks", steps[step].name);
}

/* ---------------------------------------------------------------------------------------------------- callbacks */

/* With HDR_LEADSPC a value brings its own space. */
static char *value(const char *text)
{
    char *made = malloc(strlen(text) + 2);

    sprintf(made, "%s%s", leading ? " " : "", text);
    return made;
}

/* Percent signs are the caller's to double. */
static char *doubled(const char *text)
{
    char *made = malloc(2 * strlen(text) + 1), *to = made;

    for (; *text != '\0'; text++) {
        if (*text == '%')
            *to++ = '%';
        *to++ = *text;
    }
    *to = '\0';
    return made;
}

static int set_reply(SMFICTX *ctx, struct line *line)
{
    char *code = line->fields[4], *enhanced = strcmp(line->fields[5], "-") == 0 ? NULL : line->fields[5];
    char *t[33] = { NULL };
    int field;

    for (field = 6; field < line->count; field++)
        t[field - 6] = doubled(line->fields[field]);
    if (line->count <= 7)
        return smfi_setreply(ctx, code, enhanced, t[0]);
    return smfi_setmlreply(ctx, code, enhanced, t[0], t[1], t[2], t[3], t[4], t[5], t[6], t[7], t[8], t[9], t[10], t[11],
        t[12], t[13], t[14], t[15], t[16], t[17], t[18], t[19], t[20], t[21], t[22], t[23], t[24], t[25], t[26], t[27],
        t[28], t[29], t[30], t[31], t[32], NULL);
}

/* Do an action; return its verdict, or what came before. */
static sfsistat act(SMFICTX *ctx, struct line *line, sfsistat verdict)
{
    static const struct { const char *name; sfsistat verdict; } verdicts[] = {
        { "continue", SMFIS_CONTINUE }, { "accept", SMFIS_ACCEPT }, { "reject", SMFIS_REJECT },
        { "tempfail", SMFIS_TEMPFAIL }, { "discard", SMFIS_DISCARD }, { "skip", SMFIS_SKIP }, { "nonsense", 99 },
    };
    const char *action = line->fields[3];
    char **args = line->fields + 4;
    char *second = line->count > 5 ? args[1] : NULL;
    size_t n;
    int result;

    for (n = 0; n < sizeof verdicts / sizeof verdicts[0]; n++)
        if (strcmp(action, verdicts[n].name) == 0)
            return verdicts[n].verdict;
    if (strcmp(action, "reply") == 0) {
        if (set_reply(ctx, line) == MI_SUCCESS)
            return args[0][0] == '4' ? SMFIS_TEMPFAIL : SMFIS_REJECT;
        tell_strings("! reply", 0, NULL);
        return SMFIS_TEMPFAIL;
    }
    if (strcmp(action, "addheader") == 0)
        result = smfi_addheader(ctx, args[0], value(args[1]));
    else if (strcmp(action, "insheader") == 0)
        result = smfi_insheader(ctx, atoi(args[0]), args[1], value(args[2]));
    else if (strcmp(action, "chgheader") == 0)
        result = smfi_chgheader(ctx, args[0], atoi(args[1]), value(args[2]));
    else if (strcmp(action, "delheader") == 0)
        result = smfi_chgheader(ctx, args[0], atoi(args[1]), NULL);
    else if (strcmp(action, "replacebody") == 0)
        result = smfi_replacebody(ctx, (unsigned char *)args[0], strlen(args[0]));
    else if (strcmp(action, "chgfrom") == 0)
        result = smfi_chgfrom(ctx, args[0], second);
    else if (strcmp(action, "addrcpt") == 0)
        result = second == NULL ? smfi_addrcpt(ctx, args[0]) : smfi_addrcpt_par(ctx, args[0], second);
    else if (strcmp(action, "delrcpt") == 0)
        result = smfi_delrcpt(ctx, args[0]);
    else if (strcmp(action, "quarantine") == 0)
        result = smfi_quarantine(ctx, args[0]);
    else if (strcmp(action, "progress") == 0)
        result = smfi_progress(ctx);
    else
        _exit(4);
    if (result != MI_SUCCESS) {
        const char *fields[] = { action };
        tell_strings("!", 1, fields);
    }
    return verdict;
}

/* Look up and do what the script says for a step. */
static sfsistat answer(SMFICTX *ctx, int step)
{
    const char *name = steps[step].name;
    sfsistat verdict = names("silent", name) ? SMFIS_NOREPLY : SMFIS_CONTINUE;
    struct line *line;

    calls[step]++;
    for (line = find("macros", NULL); line != NULL; line = find("macros", line)) {
        int field;
        for (field = 2; strcmp(line->fields[1], name) == 0 && field < line->count; field++) {
            char *found = smfi_getsymval(ctx, line->fields[field]);
            const char *fields[] = { line->fields[field], found };
            tell_strings("?", found == NULL ? 1 : 2, fields);
        }
    }
    for (line = find("do", NULL); line != NULL; line = find("do", line))
        if (strcmp(line->fields[1], name) == 0 &&
            (strcmp(line->fields[2], "each") == 0 || atoi(line->fields[2]) == calls[step]))
            verdict = act(ctx, line, verdict);
    return verdict;
}

static sfsistat on_negotiate(SMFICTX *ctx, unsigned long f0, unsigned long f1, unsigned long f2, unsigned long f3,
    unsigned long *pf0, unsigned long *pf1, unsigned long *pf2, unsigned long *pf3)
{
    static const char *lists[] = { "connect", "helo", "mail", "rcpt", "data", "eom", "eoh" };
    struct line *line;
    int step, list;

    if (names("negotiate", "look")) {
        char actions[24], protocol[24];
        const char *fields[] = { actions, protocol };
        sprintf(actions, "%#lx", f0);
        /* libmilter shows all bits for "no reply", since it can do without the MTA's help. */
        sprintf(protocol, "%#lx", f1 & ~ALL_NR);
        tell_strings("negotiate", 2, fields);
    }
    if (names("negotiate", "refuse"))
        return SMFIS_REJECT;
    for (line = find("list", NULL); line != NULL; line = find("list", line))
        for (list = 0; list < 7; list++)
            if (strcmp(line->fields[1], lists[list]) == 0 && (f0 & SMFIF_SETSYMLIST))
                smfi_setsymlist(ctx, list, line->fields[2]);
    if (names("negotiate", "all"))
        return SMFIS_ALL_OPTS;
    line = find("require", NULL);
    *pf0 = line == NULL ? f0 : strtoul(line->fields[1], NULL, 16);
    *pf1 = *pf2 = *pf3 = 0;
    if (find("list", NULL) != NULL && (f0 & SMFIF_SETSYMLIST))
        *pf0 |= SMFIF_SETSYMLIST;
    for (step = 0; step < STEPS; step++)
        if (!has(step))
            *pf1 |= steps[step].no & f1;
        else if (names("silent", steps[step].name))
            *pf1 |= steps[step].nr;
    if (has(BODY))
        *pf1 |= f1 & SMFIP_SKIP;
    if (find("leading", NULL) != NULL)
        *pf1 |= f1 & SMFIP_HDR_LEADSPC;
    if (find("rejected", NULL) != NULL)
        *pf1 |= f1 & SMFIP_RCPT_REJ;
    leading = (*pf1 & SMFIP_HDR_LEADSPC) != 0;
    return SMFIS_CONTINUE;
}

static sfsistat on_connect(SMFICTX *ctx, char *host, _SOCK_ADDR *address)
{
    const char *fields[4] = { host };
    char text[INET6_ADDRSTRLEN], port[8];
    int count = 1;

    if (address != NULL && address->sa_family == AF_UNIX) {
        fields[count++] = "unix";
        fields[count++] = ((struct sockaddr_un *)address)->sun_path;
    } else if (address != NULL) {
        struct sockaddr_in *in = (struct sockaddr_in *)address;
        struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)address;
        int four = address->sa_family == AF_INET;
        inet_ntop(address->sa_family, four ? (void *)&in->sin_addr : (void *)&in6->sin6_addr, text, sizeof text);
        sprintf(port, "%d", ntohs(four ? in->sin_port : in6->sin6_port));
        fields[count++] = four ? "inet" : "inet6";
        fields[count++] = text;
        fields[count++] = port;
    }
    tell_strings("connect", count, fields);
    return answer(ctx, CONNECT);
}

static sfsistat on_helo(SMFICTX *ctx, char *name)
{
    const char *fields[] = { name };

    tell_strings("helo", 1, fields);
    return answer(ctx, HELO);
}

static sfsistat on_path(SMFICTX *ctx, int step, char **args)
{
    int count = 0;

    while (count < MAX_FIELDS && args[count] != NULL)
        count++;
    tell_strings(steps[step].name, count, (const char **)args);
    return answer(ctx, step);
}

static sfsistat on_mail(SMFICTX *ctx, char **args)
{
    return on_path(ctx, MAIL, args);
}

static sfsistat on_rcpt(SMFICTX *ctx, char **args)
{
    return on_path(ctx, RCPT, args);
}

static sfsistat on_data(SMFICTX *ctx)
{
    tell_strings("data", 0, NULL);
    return answer(ctx, DATA);
}

static sfsistat on_header(SMFICTX *ctx, char *name, char *text)
{
    int space = leading && text[0] == ' ';
    const char *fields[] = { name, text + space, leading && !space ? "" : " " };

    tell_strings("header", 3, fields);
    return answer(ctx, HEADER);
}

static sfsistat on_eoh(SMFICTX *ctx)
{
    tell_strings("eoh", 0, NULL);
    return answer(ctx, EOH);
}

static sfsistat on_body(SMFICTX *ctx, unsigned char *octets, size_t size)
{
    char length[24];
    const char *fields[] = { length, (char *)octets };
    size_t sizes[] = { sprintf(length, "%zu", size), size };

    tell("body", 2, fields, sizes);
    return answer(ctx, BODY);
}

static sfsistat on_eom(SMFICTX *ctx)
{
    tell_strings("eom", 0, NULL);
    return answer(ctx, EOM);
}

static sfsistat on_unknown(SMFICTX *ctx, const char *text)
{
    const char *fields[] = { text };

    tell_strings("unknown", 1, fields);
    return answer(ctx, UNKNOWN);
}

static sfsistat on_abort(SMFICTX *ctx)
{
    tell_strings("abort", 0, NULL);
    return SMFIS_CONTINUE;
}

static sfsistat on_close(SMFICTX *ctx)
{
    tell_strings("close", 0, NULL);
    return SMFIS_CONTINUE;
}

int main(int argc, char **argv)
{
    struct smfiDesc filter = { .xxfi_name = "scripted", .xxfi_version = SMFI_VERSION, .xxfi_flags = SMFI_CURR_ACTS };
    struct line *line;

    if (argc != 2)
        return 2;
    read_script();
    line = find("require", NULL);
    /* Checked only where there is no callback for negotiation. */
    if (line != NULL)
        filter.xxfi_flags = strtoul(line->fields[1], NULL, 16);
    filter.xxfi_connect = has(CONNECT) ? on_connect : NULL;
    filter.xxfi_helo = has(HELO) ? on_helo : NULL;
    filter.xxfi_envfrom = has(MAIL) ? on_mail : NULL;
    filter.xxfi_envrcpt = has(RCPT) ? on_rcpt : NULL;
    filter.xxfi_data = has(DATA) ? on_data : NULL;
    filter.xxfi_header = has(HEADER) ? on_header : NULL;
    filter.xxfi_eoh = has(EOH) ? on_eoh : NULL;
    filter.xxfi_body = has(BODY) ? on_body : NULL;
    filter.xxfi_eom = has(EOM) ? on_eom : NULL;
    filter.xxfi_unknown = has(UNKNOWN) ? on_unknown : NULL;
    filter.xxfi_abort = on_abort;
    filter.xxfi_close = on_close;
    filter.xxfi_negotiate = names("negotiate", "none") ? NULL : on_negotiate;
    if (smfi_register(filter) != MI_SUCCESS || smfi_setconn(argv[1]) != MI_SUCCESS || smfi_opensocket(1) != MI_SUCCESS)
        return 1;
    tell("ready", 0, NULL, NULL);
    return smfi_main() == MI_SUCCESS ? 0 : 1;
}
