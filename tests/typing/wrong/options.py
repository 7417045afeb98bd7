"""Options that are none, or of another type, at every door."""

from aiomilter import Milter, run, serve
from aiomilter.compat import serve as serve_classic
from aiomilter.options import ServeOptions
from aiomilter.testing import session

serve(Milter, "inet:0", callback_timout=5)  # E: call-arg
serve(Milter, "inet:0", max_headers="5000")  # E: arg-type
run(Milter, "inet:0", callback_timout=5)  # E: call-arg
run(Milter, "inet:0", max_headers="5000")  # E: arg-type
session(Milter, callback_timout=5)  # E: call-arg
session(Milter, max_headers="5000")  # E: arg-type
serve_classic(object, "inet:0", callback_timout=5)  # E: call-arg
serve_classic(object, "inet:0", max_headers="5000")  # E: arg-type
options: ServeOptions = {"callback_timout": 5}  # E: typeddict-unknown-key
