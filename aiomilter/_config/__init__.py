"""Configuration: what a TOML file, the environment and the command line give to options and to a filter.

In reading order: :mod:`~aiomilter._config.values`, how values are written; :mod:`~aiomilter._config.table`, the keys, made from
tables of options; :mod:`~aiomilter._config.lines` and :mod:`~aiomilter._config.file`, a file with the lines of its keys;
:mod:`~aiomilter._config.faults`, what is wrong with it; :mod:`~aiomilter._config.reading` and
:mod:`~aiomilter._config.environment`, the values that are given; :mod:`~aiomilter._config.filter_settings`,
:mod:`~aiomilter._config.conversion` and :mod:`~aiomilter._config.secrets`, what is for the filter itself;
:mod:`~aiomilter._config.schema` and :mod:`~aiomilter._config.written`, files described and written.
"""
