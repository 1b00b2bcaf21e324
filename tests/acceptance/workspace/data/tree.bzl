"""A rule whose output is a directory with contents that only the action knows."""

def _tree_impl(ctx):
    tree = ctx.actions.declare_directory(ctx.label.name)
    ctx.actions.run_shell(
        outputs = [tree],
        mnemonic = "Tree",
        use_default_shell_env = True,
        arguments = [tree.path, str(ctx.attr.branches), str(ctx.attr.leaves)],
        command = """
for branch in $(seq "$2"); do
  mkdir -p "$1/branch $branch/twig"
  for leaf in $(seq "$3"); do
    echo "leaf $leaf of $branch" > "$1/branch $branch/twig/leaf_$leaf.txt"
  done
done
printf '#!/bin/sh\\necho rustle\\n' > "$1/rustle.sh"
chmod +x "$1/rustle.sh"
ln -s "branch 1/twig/leaf_1.txt" "$1/first"
""",
    )
    return [DefaultInfo(files = depset([tree]))]

tree = rule(
    implementation = _tree_impl,
    attrs = {
        "branches": attr.int(),
        "leaves": attr.int(),
    },
)
