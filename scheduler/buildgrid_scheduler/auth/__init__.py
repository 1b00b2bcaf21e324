"""Who calls, and what they may do.

`jwt` and `mtls` turn credentials into an `Identity`, `policy` says which rights it has in an instance, the
`interceptor` does the first for every call, and the services ask for the second through `access`.
"""
