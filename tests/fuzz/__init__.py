"""Fuzzing of every reader of files: ``python -m tests.fuzz``, or ``make fuzz``.

Valid files are changed in ways that the readers' formats allow, and sealed again, so that a digest
hides nothing; each is read in a process of its own with limits on memory and time. A file must be
accepted, or refused in one sentence.

====================  ==============================================================
``server.py``         one process per input, forked from one that has all modules
``readers.py``        the readers, each with valid files and with what changes them
``model_changes.py``  changes of a ``model.onnx``, ``graph_changes.py`` of its graph
``torch_changes.py``  changes of what ``torch.save`` writes
``text_changes.py``   changes of JSON, YAML and bytes
``__main__.py``       counts the outcomes
====================  ==============================================================

Input number ``n`` of a reader is always the same, so ``--seed n --count 1`` plays one again.
"""
