"""Finding processors: the demo ones, those of installed packages, those that the command line names."""

import hashlib
import importlib
import importlib.util
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType

from taskyard.errors import StartupError
from taskyard.processor import Processor, marked

#: A package names its modules (or processors) in this group of entry points.
ENTRY_POINTS = "taskyard.processors"
#: Modules made of a file that was named by its path are called so.
_FILE_MODULE = "taskyard_file_"


def load_processors(imports: Sequence[str], *, demo: bool) -> dict[str, Processor]:
    """Processors by task type. `imports` are module names, or paths of Python files.

    Raises `StartupError` if one cannot be imported, holds none, or declares a type a second time.
    """
    found: dict[str, Processor] = {}
    sources: list[tuple[str, Iterable[object]]] = []
    if demo:
        from taskyard_workers import demo as module  # noqa: PLC0415 - only where it is wanted

        sources.append(("the demo processors", vars(module).values()))
    sources += (
        (f"the entry point {entry_point.name!r}", _objects(entry_point.name, entry_point.load))
        for entry_point in entry_points(group=ENTRY_POINTS)
    )
    sources += ((name, _objects(name, partial(_import, name))) for name in imports)
    for source, objects in sources:
        here = [one for one in map(marked, objects) if one is not None]
        if not here:
            raise StartupError(f'{source} holds no processor: mark one with @processor("type")')
        for processor in here:
            if found.setdefault(processor.name, processor) is not processor:
                raise StartupError(f"{source} declares the task type {processor.name!r}, which is declared already")
    return found


def source_of(processor: Processor) -> str | None:
    """What another process has to import to find this processor again: a module, or the path of a file.

    None if it does not stand at the top level of a module that can be imported.
    """
    module = sys.modules.get(processor.run.__module__)
    if module is None or module.__name__ == "__main__":
        return None
    if not any(marked(one) is processor for one in list(vars(module).values())):
        return None
    return module.__file__ if module.__name__.startswith(_FILE_MODULE) else module.__name__


def load_from(source: str, name: str) -> Processor:
    """The processor of this name in what `source_of` gave. Raises `StartupError` if it is not there."""
    for found in map(marked, _objects(source, partial(_import, source))):
        if found is not None and found.name == name:
            return found
    raise StartupError(f"{source} holds no processor named {name!r}")


def chosen(processors: Mapping[str, Processor], types: Sequence[str]) -> dict[str, Processor]:
    """Those of these types; of none in particular: all. Raises `StartupError` for a type that has none."""
    if missing := sorted(set(types) - processors.keys()):
        there = ", ".join(sorted(processors)) or "none"
        raise StartupError(f"no processor is loaded for {', '.join(missing)}; there are {there}")
    return {name: found for name, found in processors.items() if not types or name in types}


def _objects(name: str, load: Callable[[], object]) -> Iterable[object]:
    try:
        loaded = load()
    except StartupError:
        raise
    except Exception as error:
        raise StartupError(f"{name} cannot be imported: {type(error).__name__}: {error}") from error
    return vars(loaded).values() if isinstance(loaded, ModuleType) else [loaded]


def _import(name: str) -> ModuleType:
    if name.endswith(".py"):
        path = Path(name).resolve()
        if not path.is_file():
            raise StartupError(f"there is no file {name}")
        # A name of its own: a file called json.py must not stand in for the module json.
        module_name = f"{_FILE_MODULE}{path.stem}_{hashlib.sha256(bytes(path)).hexdigest()[:8]}"
        if module_name in sys.modules:
            return sys.modules[module_name]
        spec = importlib.util.spec_from_file_location(module_name, path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        try:
            spec.loader.exec_module(module)
        except BaseException:
            del sys.modules[module_name]
            raise
        return module
    if (here := str(Path.cwd())) not in sys.path:
        sys.path.insert(0, here)
    return importlib.import_module(name)
