"""The far side of the sandbox: what runs in the helper process and in the programs' own processes.

Everything here imports the standard library only, starts fast, and knows nothing of evomerge: the sandbox puts this
folder, and no other, within reach of a fresh Python without site packages, and that Python imports it as `jail`.
"""
