"""A YAML file with its line numbers, and variables of the environment put in.

In any text `${NAME}` stands for a variable, `${NAME:-TEXT}` for a variable or TEXT where it is not set, and
`$${` for `${` itself. They are replaced after the YAML is parsed, so that a value can hold any character.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from buildgrid_scheduler.config.problems import ConfigError, Location, Problem, show_path

_VARIABLE = re.compile(r"\$(?:(\$)\{|\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\})")


@dataclass(slots=True)
class Document:
    """`lines` are counted from 1 and belong to keys, or to items of a list."""

    source: str
    values: dict[str, Any] = field(default_factory=dict)
    lines: dict[Location, int] = field(default_factory=dict)
    written: dict[Location, str] = field(default_factory=dict)
    """texts with variables, as they are in the file: what the variables hold may be secret"""
    problems: list[Problem] = field(default_factory=list)
    """what cannot be read of it, where the rest can"""
    empty: set[Location] = field(default_factory=set)
    """fields with nothing after the colon, which is not the same as null where a section is expected"""

    def line_of(self, path: Location) -> int | None:
        """Where a field is; where it is missing, the section that lacks it."""
        for length in range(len(path), 0, -1):
            if (line := self.lines.get(path[:length])) is not None:
                return line
        return None


def read_document(path: Path, environment: Mapping[str, str]) -> Document:
    """Raises ConfigError for what is not a mapping in YAML; smaller problems are in the document."""
    source = str(path)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(source, [Problem(f"cannot be read: {error.strerror}")]) from error
    except UnicodeDecodeError as error:
        raise ConfigError(source, [Problem(f"is not YAML: it is not text in UTF-8 ({error})")]) from error
    return _document_of(text, source, environment)


def parse_document(text: str, source: str, environment: Mapping[str, str]) -> Document:
    """The document that a text is. Raises ConfigError with every problem that there is."""
    document = _document_of(text, source, environment)
    if document.problems:
        raise ConfigError(source, document.problems)
    return document


def _document_of(text: str, source: str, environment: Mapping[str, str]) -> Document:
    reader = _Reader(Document(source), environment, yaml.SafeLoader(text))
    try:
        node = reader.loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = None if mark is None else mark.line + 1
        raise ConfigError(source, [Problem(f"is not YAML: {error.problem}", line=line)]) from error
    except yaml.YAMLError as error:
        raise ConfigError(source, [Problem(f"is not YAML: {error}")]) from error
    if node is None:
        return reader.document
    if not isinstance(node, yaml.MappingNode):
        what = "list" if isinstance(node, yaml.SequenceNode) else "single value"
        problem = Problem(f"must be a mapping of fields, is a {what}", line=node.start_mark.line + 1)
        raise ConfigError(source, [problem])
    reader.document.values = reader.mapping(node, ())
    return reader.document


@dataclass(slots=True)
class _Reader:
    document: Document
    environment: Mapping[str, str]
    loader: yaml.SafeLoader
    open_nodes: set[int] = field(default_factory=set)

    def value(self, node: yaml.Node, path: Location) -> Any:
        if id(node) in self.open_nodes:
            self._complain(node, path, "contains itself; remove the alias")
            return None
        self.open_nodes.add(id(node))
        try:
            if isinstance(node, yaml.MappingNode):
                return self.mapping(node, path)
            if isinstance(node, yaml.SequenceNode):
                return [self._item(item, (*path, number)) for number, item in enumerate(node.value)]
            return self._scalar(node, path)
        finally:
            self.open_nodes.discard(id(node))

    def mapping(self, node: yaml.MappingNode, path: Location) -> dict[str, Any]:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            name = str(key.value)
            if name in seen and name != "<<":
                where = (*path, name)
                self._complain(key, where, f"is there twice, first in line {seen[name]}; keep one")
            seen.setdefault(name, key.start_mark.line + 1)
        self.loader.flatten_mapping(node)
        values = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._complain(key, path, "a name of a field is text, this is a list or mapping")
                continue
            where = (*path, key.value)
            self.document.lines[where] = key.start_mark.line + 1
            values[key.value] = self.value(value, where)
        return values

    def _item(self, node: yaml.Node, path: Location) -> Any:
        self.document.lines[path] = node.start_mark.line + 1
        return self.value(node, path)

    def _scalar(self, node: yaml.Node, path: Location) -> Any:
        try:
            value = self.loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            reason = error.problem if isinstance(error, yaml.MarkedYAMLError) else error
            self._complain(node, path, f"cannot be read: {reason}; put it in quotes if it is text")
            return None
        if value is None and not node.value:
            self.document.empty.add(path)
        if not isinstance(value, str) or "${" not in value:
            return value
        self.document.written[path] = value
        return _VARIABLE.sub(lambda match: self._variable(match, node, path), value)

    def _variable(self, match: re.Match[str], node: yaml.Node, path: Location) -> str:
        escaped, name, otherwise = match.groups()
        if escaped:
            return "${"
        found = self.environment.get(name)
        if found:
            return found
        if otherwise is not None:
            return str(otherwise)
        if found is None:
            self._complain(
                node,
                path,
                f"the environment variable {name} is not set; set it, or give a default: ${{{name}:-TEXT}}",
            )
        return ""

    def _complain(self, node: yaml.Node, path: Location, message: str) -> None:
        self.document.problems.append(Problem(message, show_path(path), node.start_mark.line + 1))
