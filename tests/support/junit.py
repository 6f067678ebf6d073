"""Checks a JUnit file against the rules of Jenkins' schema (junit-10.xsd of its xUnit plugin) and prints its test cases.

The standard library validates no schemas, so the rules are written out: which attributes and children an element may
have, which it must have, and what its numbers have to add up to.
"""

import re
import sys
from xml.etree import ElementTree

NUMBER = re.compile(r"\d+$")
TIME = re.compile(r"\d+(\.\d+)?$")
STAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d$")
TEXT = re.compile(r"", re.DOTALL)
# element: (attributes that must be there, attributes that may, children in order; None for any order)
RULES = {
    "testsuites": ({}, {"name": TEXT, "time": TIME, "tests": NUMBER, "failures": NUMBER, "errors": NUMBER}, None),
    "testsuite": (
        {"name": TEXT, "tests": NUMBER, "failures": NUMBER, "errors": NUMBER},
        {"skipped": NUMBER, "time": TIME, "timestamp": STAMP, "id": TEXT},
        ["properties", "testcase", "system-out"],
    ),
    "properties": ({}, {}, None),
    "property": ({"name": TEXT, "value": TEXT}, {}, None),
    "testcase": ({"name": TEXT}, {"classname": TEXT, "time": TIME}, None),
    "failure": ({}, {"type": TEXT, "message": TEXT}, None),
    "error": ({}, {"type": TEXT, "message": TEXT}, None),
    "skipped": ({}, {"message": TEXT}, None),
    "system-out": ({}, {}, None),
}
CHILDREN = {
    "testsuites": {"testsuite"},
    "testsuite": {"properties", "testcase", "system-out"},
    "properties": {"property"},
    "testcase": {"failure", "error", "skipped", "system-out"},
}


def check(element):
    must, may, order = RULES[element.tag]
    for name in must:
        assert name in element.attrib, f"{element.tag} has no {name}"
    for name, value in element.attrib.items():
        rule = must.get(name) or may.get(name)
        assert rule is not None, f"{element.tag} may not have {name}"
        assert rule.match(value), f"{element.tag} {name}={value!r}"
    tags = [child.tag for child in element]
    assert set(tags) <= CHILDREN.get(element.tag, set()), f"{element.tag} has {tags}"
    if order:
        assert tags == sorted(tags, key=order.index), f"{element.tag} is out of order: {tags}"
    for child in element:
        check(child)


def state(case):
    for tag in ("failure", "error", "skipped"):
        if case.find(tag) is not None:
            return tag
    return "passed"


root = ElementTree.parse(sys.argv[1]).getroot()
assert root.tag == "testsuites", root.tag
check(root)
for whole in [root, *root]:
    states = [state(case) for case in whole.iter("testcase")]
    for attribute, tag in [("failures", "failure"), ("errors", "error"), ("skipped", "skipped")]:
        if attribute in whole.attrib:
            assert int(whole.get(attribute)) == states.count(tag), f"{attribute} of {whole.get('name')}"
    assert int(whole.get("tests")) == len(states), whole.get("name")
for case in root.iter("testcase"):
    print(case.get("classname"), case.get("name"), state(case))
