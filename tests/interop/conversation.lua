-- A whole conversation with a filter, played by miltertest: miltertest -D socket=... -s conversation.lua
-- The filter is Answering in test_miltertest.py.  Any call of error() makes the exit status non-zero.  miltertest does not
-- show what error() says, so the last lines do.

local conn

local function check(condition, what)
    if not condition then error(what) end
end

-- A call returns nil or what went wrong; the filter's answer waits in getreply.
local function expect(failure, reply, what)
    check(failure == nil, what .. ": " .. tostring(failure))
    local found = mt.getreply(conn)
    check(found == reply, what .. ": expected answer " .. reply .. ", found " .. found)
end

local function envelope(sender, id)
    mt.macro(conn, SMFIC_MAIL, "i", id)
    expect(mt.mailfrom(conn, sender, "SIZE=300"), SMFIR_CONTINUE, "MAIL " .. sender)
    mt.macro(conn, SMFIC_RCPT, "{rcpt_addr}", "bob@example.test")
    expect(mt.rcptto(conn, "<bob@example.test>"), SMFIR_CONTINUE, "RCPT bob")
end

local function content()
    expect(mt.header(conn, "From", "alice@client.test"), SMFIR_CONTINUE, "From")
    expect(mt.header(conn, "X-Number", "1"), SMFIR_CONTINUE, "X-Number 1")
    expect(mt.header(conn, "X-Number", "2"), SMFIR_CONTINUE, "X-Number 2")
    expect(mt.eoh(conn), SMFIR_CONTINUE, "end of headers")
    expect(mt.bodystring(conn, "first chunk\r\n"), SMFIR_CONTINUE, "first chunk")
    expect(mt.bodystring(conn, "second chunk\r\n"), SMFIR_SKIP, "second chunk")
end

local function conversation()
    conn = mt.connect(socket)
    check(conn ~= nil, "cannot connect")

    -- What is offered and wanted is agreed, steps without callback are not asked for.  (With numbers miltertest 2.11 offers
    -- the steps as actions and the actions as steps.)
    check(mt.negotiate(conn, nil, nil, nil) == nil, "negotiation")
    for _, action in ipairs({SMFIF_ADDHDRS, SMFIF_CHGHDRS, SMFIF_CHGBODY, SMFIF_ADDRCPT, SMFIF_DELRCPT, SMFIF_QUARANTINE}) do
        check(mt.test_action(conn, action), "action " .. action .. " was not agreed")
    end
    check(mt.test_option(conn, SMFIP_NODATA), "DATA is asked for though no callback wants it")
    check(mt.test_option(conn, SMFIP_SKIP), "SKIP was not agreed")
    check(not mt.test_option(conn, SMFIP_NORCPT), "RCPT is not asked for")
    check(not mt.test_option(conn, SMFIP_NOBODY), "the body is not asked for")

    mt.macro(conn, SMFIC_CONNECT, "j", "mx.example.test", "{daemon_name}", "MTA")
    expect(mt.conninfo(conn, "client.test", "192.0.2.7"), SMFIR_CONTINUE, "CONNECT")
    expect(mt.helo(conn, "client.test"), SMFIR_CONTINUE, "HELO")

    -- 1: one recipient refused, the rest edited in every way.
    envelope("<edit@client.test>", "ID1")
    expect(mt.rcptto(conn, "<refused@example.test>"), SMFIR_REPLYCODE, "RCPT refused")
    content()
    expect(mt.eom(conn), SMFIR_CONTINUE, "end of message 1")
    check(mt.eom_check(conn, MT_HDRADD, "X-Seen", "ID1 client.test 192.0.2.7 client.test edit@client.test bob@example.test"),
        "X-Seen was not added")
    check(mt.eom_check(conn, MT_HDRINSERT, "X-Top", "top", 0), "X-Top was not inserted at 0")
    check(mt.eom_check(conn, MT_HDRCHANGE, "X-Number", "changed"), "X-Number was not changed")
    check(mt.eom_check(conn, MT_HDRDELETE, "X-Number"), "X-Number was not deleted")
    check(mt.eom_check(conn, MT_BODYCHANGE, "new body\r\n"), "the body was not replaced")
    check(mt.eom_check(conn, MT_RCPTADD, "<carol@example.test>"), "no recipient was added")
    check(mt.eom_check(conn, MT_RCPTDELETE, "<bob@example.test>"), "no recipient was deleted")
    check(mt.eom_check(conn, MT_QUARANTINE, "for review"), "the message was not quarantined")
    check(not mt.eom_check(conn, MT_SMTPREPLY, "550", "5.1.1", "not here"), "a reply was left over from the refused recipient")

    -- 2: nothing of 1 is seen in 2, which is refused with a reply.
    envelope("<refuse@client.test>", "ID2")
    content()
    expect(mt.eom(conn), SMFIR_REPLYCODE, "end of message 2")
    check(mt.eom_check(conn, MT_SMTPREPLY, "554", "5.7.1", "refused"), "the reply itself")
    check(not mt.eom_check(conn, MT_HDRADD), "an edit of a refused message was sent")

    -- 3: given up; 4: an unknown command on the way; accepted without edits.
    envelope("<abort@client.test>", "ID3")
    check(mt.abort(conn) == nil, "ABORT")
    envelope("<accept@client.test>", "ID4")
    expect(mt.unknown(conn, "FOOO bar"), SMFIR_REPLYCODE, "UNKNOWN")
    expect(mt.header(conn, "From", "alice@client.test"), SMFIR_ACCEPT, "From of message 4")

    -- 5: refused at MAIL; 6: discarded.
    expect(mt.mailfrom(conn, "<nobody@client.test>"), SMFIR_TEMPFAIL, "MAIL of message 5")
    envelope("<discard@client.test>", "ID6")
    content()
    expect(mt.eom(conn), SMFIR_DISCARD, "end of message 6")

    mt.disconnect(conn)
end

local done, what = pcall(conversation)
if not done then
    mt.echo(what)
    error(what)
end
