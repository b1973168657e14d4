"""Pure functions on arrays: no Lightning, no files, no figures. One package for each subject.

``memorization``: how much a model is right on an example only because it was trained on it.
``influence``: what one training example adds to the accuracy on another example.
``impact``: what a treatment such as DP-SGD or pruning costs, and whom.
``long_tail``: what limiting memorization must cost in theory.
``uncertainty``: intervals of means over models and examples, for all of the above.

Beside them: ``intervals`` (of proportions), ``subgroups`` (values by group), ``accounting`` (what private steps spend)
and ``checks`` (of arguments). Each public name has one home, which is the package: ``_name.py`` files are private.
"""
