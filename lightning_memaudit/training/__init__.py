"""Making the record: a ``Run`` travels from the audit to an executor, which trains and scores each of its models.

Rooms, each of which imports only from those before it: this one (``run``, ``population``, ``probe``, ``task``),
``engines``, ``workers``, ``executors``, ``arms``.
"""
