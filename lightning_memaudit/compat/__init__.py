"""The only rooms that touch private names of Lightning, torch and Opacus: one module a library, one function a use.

Private names may go with any release. So each function looks first whether the name is there (``names``). Where it is
not, a fast engine leaves training to Lightning's own loop, ``DifferentialPrivacy`` refuses, and all else takes a public
way that is slower or coarser, never one that is wrong.
"""
