"""Reads a JSON list of state documents and prints what prefect itself makes of each: the document or its complaint."""

import json
import sys

from prefect.engine.state import State

answers = []
for document in json.load(sys.stdin):
    try:
        answers.append({"document": State.deserialize(document).serialize()})
    except Exception as error:
        answers.append({"refusal": str(error)})
json.dump(answers, sys.stdout)
