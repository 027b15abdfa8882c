"""What a server says of its nodes beside values.

`lookups`: batched questions; `definitions`: types and structures; `enumerations`: their texts; `semantics`: units and
ranges; `changes`: readings that say that any of these changed.
"""
