"""The type checker that conftest.py hangs on the library: beartype, with int accepted where float is said (PEP 484)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))
