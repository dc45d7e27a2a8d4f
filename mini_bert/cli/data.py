"""`mini-bert data list|fetch|verify|describe`: the registry of corpora and task sets."""

from __future__ import annotations

import sys
from itertools import islice
from typing import Annotated

from tyro.conf import Positional, arg

from mini_bert.cli import BAD_INPUT, DONE
from mini_bert.cli.options import Flag
from mini_bert.cli.results import print_json
from mini_bert.data import sources
from mini_bert.errors import ChecksumError, DataError
from mini_bert.reports.quantities import size

Name = Positional[Annotated[str, arg(metavar="NAME")]]
Names = Positional[Annotated[tuple[str, ...], arg(metavar="NAME…", help_behavior_hint="")]]


def list(*, json: Flag = False) -> int:
    """List the corpora and task sets that are known by name.

    Files lie in $MINI_BERT_DATA/NAME/ (the platform's data folder where that is not set).

    Examples:
      mini-bert data list
      mini-bert pretrain --corpus enwiki-2018 --corpus novels=2

    Args:
        json: as JSON.
    """
    if json:
        print_json([sources.describe(name) for name in sources.SOURCES])
        return DONE
    width = max(map(len, sources.SOURCES))
    for kind, heading in {"corpus": "Corpora", "tasks": "Task sets", "vocabulary": "Vocabularies"}.items():
        print(f"{heading}:")
        for source in sources.SOURCES.values():
            if source.kind == kind:
                print(f"  {source.name:<{width}}  {_size(source):>8}  {_presence(source):<7}  {source.title}")
    return DONE


def fetch(names: Names) -> int:
    """Download data sets; a file that is there with the right sha256 is left alone.

    Examples:
      mini-bert data fetch enwiki-2018 novels

    Args:
        names: data sets of `mini-bert data list`.
    """
    if not names:
        raise DataError("NAME", got="none", expected="data sets of mini-bert data list")
    for name in names:
        source = sources.lookup(name)
        if source.files:
            print(f"{name}: {len(source.files)} files, {_size(source)}, {source.licence}", file=sys.stderr)
        for path in sources.fetch(name):
            print(path)
    return DONE


def verify(names: Names = ()) -> int:
    """Check the files of data sets against their sha256; nothing is downloaded. Exit code 2 if a file is wrong.

    Examples:
      mini-bert data verify                 # all sets of which a file is here
      mini-bert data verify enwiki-2018

    Args:
        names: data sets of `mini-bert data list`.
    """
    wrong = 0
    for name in names or [source.name for source in sources.SOURCES.values() if _presence(source) != "-"]:
        try:
            paths = sources.verify(name)
        except (ChecksumError, DataError) as error:
            if name not in sources.SOURCES:
                raise
            print(f"mini-bert data verify: {error}", file=sys.stderr)
            wrong += 1
        else:
            print(f"{name}: {len(paths)} files as they should be")
    return BAD_INPUT if wrong else DONE


def describe(name: Name, *, sentences: int = 3, json: Flag = False) -> int:
    """Show where a data set comes from, its licence and files, and the first sentences of a corpus that is here.

    Examples:
      mini-bert data describe novels
      mini-bert data describe python-docs --sentences 20

    Args:
        name: a data set of `mini-bert data list`.
        sentences: how many sentences of a corpus to show.
        json: as JSON, without sentences.
    """
    source = sources.lookup(name)
    if json:
        print_json(sources.describe(name))
        return DONE
    print(f"{source.name}: {source.title}\n  licence  {source.licence}")
    if source.files:
        print(f"  files    {len(source.files)}, {_size(source)}, here: {_presence(source)}")
        print(f"  place    {sources.data_home() / source.name}")
        print(f"  source   {source.files[0].url}")
    if source.kind == "corpus" and sentences > 0 and _presence(source) == "yes":
        from mini_bert.data.documents import read_documents

        document = next(read_documents(name))
        print(f"\n  {document.name} begins:")
        for sentence in islice(document.sentences, sentences):
            print(f"    {sentence}")
    return DONE


def _presence(source: sources.Source) -> str:
    """`yes`, `-`, or how many of the files are here; what is harvested from this machine is always here."""
    here = sum((sources.data_home() / source.name / file.path).is_file() for file in source.files)
    return "yes" if here == len(source.files) else f"{here}/{len(source.files)}" if here else "-"


def _size(source: sources.Source) -> str:
    """Nothing for what is harvested from this machine."""
    return size(source.bytes) if source.bytes else ""
