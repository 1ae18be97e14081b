"""What Wireshark is told of iWARP beyond what it knows: a dissector in Lua, and the folder where it is looked for.

`pyiwarp.lua` is the dissector, `folders` finds the folder, writes the file there and takes it away.
"""
