"""A farm as a program: traces of jobs against policies, ours (by the planner's own code) and others'.

Times are seconds as floats here, since the beginning of the trace. Everything random comes from a seed.
"""
