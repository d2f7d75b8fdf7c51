"""Offsets are of the first place that a kernel has; its version is counted as the kernel counts."""

import pytest

from agent_broker.errors import UnavailableError
from agent_broker.kernel.bcc.fields import FIELDS, defines, version_code


@pytest.mark.parametrize(
    ("release", "code"), [("6.18.44-x", 0x06122C), ("6.1.0-40-amd64", 0x060100), ("5.10.999", 0x050AFF), ("odd", 0)]
)
def test_the_version_is_counted_as_the_kernel_does(release, code):
    assert version_code(release) == code


def kernel_with(*, without=()):
    return lambda struct, path: None if (struct, path) in without else 8


def test_each_field_is_where_the_kernel_has_it():
    arguments = defines(kernel_with(without={("inode", "i_mtime_sec"), ("file", "f_ref.refcnt.counter")}))
    assert "-DOFFSET_inode__mtime_s=8" in arguments
    assert "-DREFERENCES_BASE=1" in arguments
    assert "-DREFERENCES_BASE=0" in defines(kernel_with())


def test_a_field_that_is_nowhere_refuses():
    places = set(FIELDS["inode__mtime_s"])
    with pytest.raises(UnavailableError, match="no field for inode__mtime_s"):
        defines(kernel_with(without=places))
