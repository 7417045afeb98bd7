"""``aiomilter doctor``: why does mail not flow through a filter, and what exactly is to be written?

In reading order: :mod:`~aiomilter._doctor.findings`; what is read, :mod:`~aiomilter._doctor.postconf` and
:mod:`~aiomilter._doctor.milter_lists` for :mod:`~aiomilter._doctor.postfix`, all of them as
:mod:`~aiomilter._doctor.model` has it, with :mod:`~aiomilter._doctor.endpoints` as each MTA spells them; facts of the machine,
:mod:`~aiomilter._doctor.paths`, :mod:`~aiomilter._doctor.processes`, :mod:`~aiomilter._doctor.programs` and
:mod:`~aiomilter._doctor.reaching`, of what the filter needs :mod:`~aiomilter._doctor.backends` and
:mod:`~aiomilter._doctor.resolving`;
:mod:`~aiomilter._doctor.case`, what the :mod:`~aiomilter._doctor.checks` look at, with the steps of
:mod:`~aiomilter._doctor.listening`; :mod:`~aiomilter._doctor.examination` does it all, and
:mod:`~aiomilter._doctor.report` says it.
"""
