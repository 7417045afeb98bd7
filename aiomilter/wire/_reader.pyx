# cython: language_level=3, boundscheck=False, wraparound=False, initializedcheck=False
"""The compiled twin of :mod:`aiomilter.wire.reader`, which says what this must do: the same batches, the same state, the same errors.

Octets are looked at where they are, without a slice, a tuple or an ``int`` for each packet.  The attributes that the loop uses
are read from their slots: by name they cost another 12 % of a message whose packets are all answered.

Source: aiomilter/wire/reader.py.
"""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_INCREF, Py_XDECREF
from libc.string cimport memchr, memcmp

from types import MemberDescriptorType

from aiomilter.exceptions import RemoteProtocolError
from aiomilter.wire import reader
from aiomilter.wire.constants import Command
from aiomilter.wire.events import Header
from aiomilter.wire.framing import FrameBuffer
from aiomilter.wire.macros import PLACES, MacroStore

__all__ = ["read"]

if sizeof(Py_ssize_t) < 8:
    raise ImportError("expected a machine of 64 bits: a length of 4 octets would be negative")

cdef extern from *:
    """
    #include <structmember.h>
    #define member_of(descriptor) (((PyMemberDescrObject *)(descriptor))->d_member)
    #if PY_VERSION_HEX >= 0x030E0000
    #define without_hash(tuple) (((PyTupleObject *)(tuple))->ob_hash = -1)
    #else
    #define without_hash(tuple) ((void)0)
    #endif
    """
    ctypedef struct PyMemberDef:
        int type
        Py_ssize_t offset
    int T_OBJECT_EX
    PyMemberDef *member_of(object)
    PyObject *PyDict_GetItemWithError(object, object) except? NULL
    object PyUnicode_DecodeUTF8(const unsigned char *, Py_ssize_t, const char *)
    object PyType_GenericAlloc(PyTypeObject *, Py_ssize_t)
    void PyTuple_SET_ITEM(object, Py_ssize_t, object)
    void without_hash(object)

cdef Py_ssize_t LARGE = reader.LARGE, MOST = reader.MOST
cdef int HEADER = int(Command.HEADER), MACRO = int(Command.MACRO), BODY = int(Command.BODY), BODYEOB = int(Command.BODYEOB)
cdef bytes STAGE_PLACES = PLACES
cdef object FIELD = Header
cdef str SPACE = " ", NOTHING = ""
cdef unsigned char BLANK = 32
cdef tuple CODES = tuple(range(256))
"""Every code as the object that tables are asked for."""


cdef Py_ssize_t slot_of(object owner, str name) except -1:
    """Return where in its instances a class has an attribute of its ``__slots__``."""
    descriptor = getattr(owner, name)
    if type(descriptor) is not MemberDescriptorType or member_of(descriptor).type != T_OBJECT_EX:
        raise TypeError(f"{owner.__name__}: expected {name} in __slots__")
    return member_of(descriptor).offset


cdef Py_ssize_t LAST = slot_of(MacroStore, "last"), SETS = slot_of(MacroStore, "sets")
cdef Py_ssize_t DATA = slot_of(FrameBuffer, "data"), POS = slot_of(FrameBuffer, "pos"), END = slot_of(FrameBuffer, "end")
cdef Py_ssize_t MAX_LENGTH = slot_of(FrameBuffer, "max_length")
# Of the class of connections, which is known from the first one on: its module imports this one.
cdef object connections = None
cdef Py_ssize_t BUFFER, MACROS, ROW, STATE, ANSWERED, IMPLY, LEADING, BATCH, READ_FROM
cdef Py_ssize_t HEADERS_LEFT, SIZE_LEFT, MAX_HEADERS, MAX_SIZE


cdef int learn(object owner) except -1:
    """Learn where the connections of a class have their attributes."""
    global connections, BUFFER, MACROS, ROW, STATE, ANSWERED, IMPLY, LEADING, BATCH, READ_FROM
    global HEADERS_LEFT, SIZE_LEFT, MAX_HEADERS, MAX_SIZE
    connections = None
    BUFFER, MACROS, ROW, STATE = slot_of(owner, "buffer"), slot_of(owner, "macros"), slot_of(owner, "row"), slot_of(owner, "state")
    ANSWERED, IMPLY = slot_of(owner, "answered"), slot_of(owner, "macros_imply_up_to")
    LEADING, BATCH, READ_FROM = slot_of(owner, "leading_space"), slot_of(owner, "batch"), slot_of(owner, "read_from")
    HEADERS_LEFT, SIZE_LEFT = slot_of(owner, "headers_left"), slot_of(owner, "headers_size_left")
    MAX_HEADERS, MAX_SIZE = slot_of(owner, "max_headers"), slot_of(owner, "max_headers_size")
    connections = owner
    return 0


cdef inline object get(object owner, Py_ssize_t slot):
    cdef PyObject *value = (<PyObject **>(<char *><PyObject *>owner + slot))[0]
    if value == NULL:
        raise AttributeError("expected an attribute that is set")
    return <object>value


cdef inline int put(object owner, Py_ssize_t slot, object value) except -1:
    cdef PyObject **place = <PyObject **>(<char *><PyObject *>owner + slot)
    cdef PyObject *former = place[0]
    Py_INCREF(value)
    place[0] = <PyObject *>value
    Py_XDECREF(former)
    return 0


cdef inline Py_ssize_t u32(const unsigned char *at) noexcept:
    return (<Py_ssize_t>at[0] << 24) | (<Py_ssize_t>at[1] << 16) | (<Py_ssize_t>at[2] << 8) | at[3]


cdef inline bytes octets_at(const unsigned char *at, Py_ssize_t size):
    return PyBytes_FromStringAndSize(<const char *>at, size)


cdef inline bint begins(const unsigned char *at, Py_ssize_t size, bytes prefix, Py_ssize_t prefix_size) noexcept:
    return size >= prefix_size and not memcmp(at, PyBytes_AS_STRING(prefix), prefix_size)


cdef inline object usual_field(const unsigned char *at, Py_ssize_t size, bint leading):
    """Return a header field as Header.decode does, None for an unusual one: two strings of UTF-8, the first not empty.

    With ``leading`` as Header.decode_leading does.
    """
    cdef const unsigned char *nul = <const unsigned char *>memchr(at, 0, size)
    if nul == NULL or nul == at:
        return None
    cdef Py_ssize_t named = nul - at, rest = size - (nul - at) - 1
    if not rest or <const unsigned char *>memchr(nul + 1, 0, rest) != at + size - 1:
        return None
    separator = SPACE
    if leading:
        if nul[1] == BLANK:
            nul += 1
            rest -= 1
        else:
            separator = NOTHING
    try:
        name, value = PyUnicode_DecodeUTF8(at, named, NULL), PyUnicode_DecodeUTF8(nul + 1, rest - 1, NULL)
    except UnicodeDecodeError:
        return None
    # As tuple.__new__ does for a class of its own; from Python 3.14 on a tuple remembers its hash, and 0 would be one.
    field = PyType_GenericAlloc(<PyTypeObject *>FIELD, 3)
    without_hash(field)
    Py_INCREF(name)
    PyTuple_SET_ITEM(field, 0, name)
    Py_INCREF(value)
    PyTuple_SET_ITEM(field, 1, value)
    Py_INCREF(separator)
    PyTuple_SET_ITEM(field, 2, separator)
    return field


cdef list fields_at(
    object wire, object decode, const unsigned char *octets, Py_ssize_t *place, Py_ssize_t end, Py_ssize_t limit,
    bytes prefix, Py_ssize_t most,
):
    """Read the header fields that follow one another; as ``_fields`` does, with what follows the last in ``place``."""
    cdef Py_ssize_t lead = PyBytes_GET_SIZE(prefix), at = place[0], length, stop
    cdef Py_ssize_t headers_left = get(wire, HEADERS_LEFT), left = get(wire, SIZE_LEFT)
    cdef bint leading = get(wire, LEADING)
    cdef list fields = []
    if at < lead or not begins(octets + at - lead, lead, prefix, lead):
        lead = 0
    if end - at + lead > min(left, limit):
        most = 1  # one at a time, and read() looks at its length
    while True:
        length = u32(octets + at)
        stop = at + 4 + length
        if octets[at + 4] != HEADER or stop > end or not length:
            break
        field = usual_field(octets + at + 5, length - 1, leading)
        if field is None:
            try:
                field = decode(octets_at(octets + at + 5, length - 1))
            except RemoteProtocolError:
                if fields:
                    break  # it is raised once the events before it are handled
                raise
        fields.append(field)
        headers_left -= 1
        left -= length
        place[0] = stop
        at = stop + lead
        most -= 1
        if most < 1 or not headers_left or end - stop < lead + 5 or not begins(octets + stop, lead, prefix, lead):
            break
    put(wire, HEADERS_LEFT, headers_left)
    put(wire, SIZE_LEFT, left)
    return fields


def read(wire, Py_ssize_t most=MOST):
    """Return the received events, in their order; none until more octets come: :func:`aiomilter.wire.reader.read`."""
    cdef const unsigned char *octets
    cdef const unsigned char *head
    cdef Py_ssize_t pos, end, start, taken, length, stop
    cdef int code
    cdef bint large
    cdef bytes data, frame, prefix
    cdef dict row
    cdef list batch = [], fields
    cdef tuple cell
    cdef PyObject *found
    if type(wire) is not connections:
        learn(type(wire))
    buffer, macros = get(wire, BUFFER), get(wire, MACROS)
    if type(buffer) is not FrameBuffer or type(macros) is not MacroStore:
        raise TypeError("expected a FrameBuffer and a MacroStore")
    cdef frozenset answered = get(wire, ANSWERED)
    cdef Py_ssize_t limit = get(buffer, MAX_LENGTH), imply = get(wire, IMPLY)
    while True:
        data, pos, end = get(buffer, DATA), get(buffer, POS), get(buffer, END)
        row, prefix, large = get(wire, ROW), get(macros, LAST), end - pos > limit
        if not 0 <= pos <= end <= PyBytes_GET_SIZE(data):
            raise IndexError("expected the unread octets inside the data")
        octets = <const unsigned char *>PyBytes_AS_STRING(data)
        start = taken = pos
        while end - pos > 4:
            head = octets + pos
            length, code = u32(head), head[4]
            stop = pos + 4 + length
            if stop > end or not length or (large and length > limit):
                break  # unfinished, or for refill() to refuse
            if code == MACRO and imply < length < LARGE:
                if length + 4 != PyBytes_GET_SIZE(prefix) or not begins(head, length + 4, prefix, length + 4):
                    frame = octets_at(head, length + 4)
                    if batch:
                        most -= 1
                        if most < 1:
                            break
                        batch.append(frame)
                        taken = stop
                    elif STAGE_PLACES[head[5]]:
                        # As MacroStore.keep does.
                        get(macros, SETS)[STAGE_PLACES[head[5]]] = frame
                        put(macros, LAST, frame)
                    prefix = frame
                pos = stop
                continue
            found = PyDict_GetItemWithError(row, CODES[code])
            if found == NULL:
                decode = reached = state = special = None
            else:
                cell = <tuple?><object>found
                decode, reached, state, special = cell
            if decode is None:
                if batch:
                    break
                if length > LARGE and code != HEADER and code != BODY and code != BODYEOB:
                    wire.large = True
                put(buffer, POS, stop)
                frame = octets_at(head + 5, length - 1)
                event = wire.take(code, frame, pos) if special is None else special(wire, code, reached, frame, pos)
                if event is not None:
                    return [event]
                pos, row, prefix = get(buffer, POS), get(wire, ROW), get(macros, LAST)
                if not 0 <= pos <= end:
                    raise IndexError("expected the unread octets inside the data")
                continue
            try:
                if code != HEADER:
                    event = decode(octets_at(head + 5, length - 1))
                else:
                    if reached is not row:
                        put(wire, HEADERS_LEFT, get(wire, MAX_HEADERS))
                        put(wire, SIZE_LEFT, get(wire, MAX_SIZE))
                    if not get(wire, HEADERS_LEFT) or length > <Py_ssize_t>get(wire, SIZE_LEFT):
                        if batch:
                            break
                        put(buffer, POS, stop)
                        return [wire.excess(reached, state)]
                    if CODES[code] in answered:
                        event = usual_field(head + 5, length - 1, get(wire, LEADING))
                        if event is None:
                            event = decode(octets_at(head + 5, length - 1))
                        put(wire, HEADERS_LEFT, <Py_ssize_t>get(wire, HEADERS_LEFT) - 1)
                        put(wire, SIZE_LEFT, <Py_ssize_t>get(wire, SIZE_LEFT) - length)
                    else:
                        stop = pos
                        event = fields = fields_at(wire, decode, octets, &stop, end, limit, prefix, most)
                        most -= len(fields) - 1
            except RemoteProtocolError:
                if batch:
                    break  # it is raised once the events before it are handled
                raise
            pos = taken = stop
            if reached is not row:
                row = reached
                put(wire, ROW, reached)
                put(wire, STATE, state)
            batch.append(event)
            most -= 1
            if CODES[code] in answered or most < 1:
                break
        # The macros behind the last event wait for the packet that they belong to.
        put(buffer, POS, taken if batch else pos)
        if batch or not buffer.refill():
            put(wire, BATCH, batch)
            put(wire, READ_FROM, start)
            return batch
