"""Configurations: shipped ones load, wrong ones give one line that names the place."""

from __future__ import annotations

import dataclasses

import pytest
import yaml

from hw.config import HardwareConfig
from hw.errors import ConfigError
from hw.presets import find, load_hardware, load_yaml, names
from hw.resources import load_device, total


@pytest.mark.parametrize("name", names("hardware"))
def test_shipped_hardware_fits_its_device(name):
    config = load_hardware(name)
    assert config.name == name
    device = load_device(config.device)
    assert device.fits(total(config)), total(config).rounded()


def test_published_geometry():
    config = load_hardware("v80-lutllm")
    assert config.positions * config.lanes == 8192
    assert (config.chains, config.chain_length, config.positions) == (4, 16, 16)
    assert (config.weight_ports, config.port_bits, config.clock_mhz) == (16, 512, 250)


def test_digest_ignores_the_name():
    config = load_hardware("tiny")
    assert dataclasses.replace(config, name="other").digest() == config.digest()
    assert dataclasses.replace(config, tokens_max=4).digest() != config.digest()
    assert dataclasses.replace(config, row_bits=8).digest() != config.digest()


def write(tmp_path, **changes):
    values = {**dataclasses.asdict(load_hardware("tiny")), **changes}
    path = tmp_path / "my.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in values.items() if v is not None}))
    return str(path)


@pytest.mark.parametrize(("changes", "message"), [
    ({"lanez": 3}, "unknown key 'lanez'; did you mean lanes\\?"),
    ({"lanes": None}, "missing key 'lanes'"),
    ({"lanes": "many"}, "lanes must be int, not 'many'"),
    ({"lanes": True}, "lanes must be int, not True"),
    ({"lanes": 48}, "lanes must be a power of two, not 48"),
    ({"lanes": 0}, "lanes must be positive, not 0"),
    ({"group_max": 512},
     r"group_max must be at most 256 \(one multiplier takes a group's dot product\), not 512"),
    ({"sum_bits": 19}, "sum_bits must be 20 to 32, not 19"),
    ({"sum_bits": 33}, "sum_bits must be 20 to 32, not 33"),
    ({"port_bits": 32}, "port_bits must be 64, 128, 256 or 512, not 32"),
    ({"weight_ports": 3},
     "weight_ports must be a divisor of the 4 positions of a port word, or 6, not 3"),
    ({"row_bits": 7}, "row_bits must be 8 to 16, not 7"),
    ({"row_bits": 17}, "row_bits must be 8 to 16, not 17"),
    ({"row_bits": None}, "missing key 'row_bits'"),
    ({"key_bits": 5}, "key_bits must be 4 or 8, not 5"),
    ({"value_bits": 16}, "value_bits must be 4 or 8, not 16"),
    ({"value_bits": 4, "simd_depth": 2}, "value_bits must be 8 with a simd_depth of 2, not 4"),
    ({"value_bits": None}, "missing key 'value_bits'"),
    ({"index_bits": 6}, "index_bits must be 3, 4 or 8, not 6"),
    ({"index_bits": 3},
     r"lanes must be a multiple of 128 \(3-bit indices of whole port words\), not 32"),
    ({"lanes": 16},
     r"lanes must be a multiple of 32 \(4-bit indices of whole port words\), not 16"),
    ({"clock_mhz": -1}, "clock_mhz must be positive, not -1"),
    ({"clock_mhz": float("nan")}, "clock_mhz must be finite, not nan"),
    ({"clock_mhz": float("inf")}, "clock_mhz must be finite, not inf"),
    ({"clock_mhz": 1e9}, "clock_mhz must be at most 10000, not 1000000000.0"),
    ({"device": "kv26"}, "no device called 'kv26'; known: v80, u280, kv260, ecp5-85"),
])
def test_wrong_hardware(tmp_path, changes, message):
    with pytest.raises(ConfigError, match=rf"^.*my\.yaml: {message}$"):
        load_hardware(write(tmp_path, **changes))


@pytest.mark.parametrize(("text", "message"), [
    ("a: 1\na: 2\n", "key a is written twice in the mapping at line 1"),
    ("a: [1\n", "expected ',' or ']'"),
    ("- 1\n", "must be a YAML mapping"),
])
def test_wrong_yaml(tmp_path, text, message):
    path = tmp_path / "my.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message) as error:
        load_yaml(path)
    assert "\n" not in str(error.value)


def test_unknown_name():
    with pytest.raises(ConfigError, match=r"^no hardware configuration called 'tinny'; "
                                          r"did you mean tiny\?$"):
        find("hardware", "tinny")


def test_missing_file():
    with pytest.raises(ConfigError, match=r"^/no/such.yaml: No such file or directory$"):
        load_hardware("/no/such.yaml")


def test_every_field_is_documented():
    text = HardwareConfig.__doc__ or ""
    for field in dataclasses.fields(HardwareConfig):
        assert f"{field.name}" in text
