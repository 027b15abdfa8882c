"""`points rename`: another local name, the same identifier."""

from gateway.config import load_config
from tests.unit.tables.plant import BOILER, Plant


def identifiers(plant: Plant) -> dict[str, str | None]:
    device = load_config(plant.config).devices[0]
    return {point.point: device.identifiers[i] for i, point in enumerate(device.config.points)}


def test_the_identifier_of_the_pattern_is_written_down(plant: Plant) -> None:
    before = identifiers(plant)
    code, said = plant.run("rename", plant.config, "boiler-1", "PI-101", "pressure")
    assert code == 0
    assert said == (
        "boiler-1: point steam_pressure becomes pressure\n"
        "  its identifier stays 88.118.8/boiler-1.steam_pressure: written into the file as `id`\n"
        "  readings before and after are of two entries of the catalogue, joined by the identifier\n"
        "nothing is written yet; --apply writes it\n"
    )
    assert plant.boiler.read_text() == BOILER
    code, said = plant.run("rename", plant.config, "1 号锅炉", "steam_pressure", "pressure", "--apply")
    assert (code, said.splitlines()[-1]) == (0, "written: config/devices/boiler-1.yaml")
    assert plant.boiler.read_text() == BOILER.replace("point: steam_pressure", "point: pressure").replace(
        "unit: MPa}", 'unit: MPa,\n     id: "88.118.8/boiler-1.steam_pressure"}'
    )
    assert before.pop("steam_pressure") == "88.118.8/boiler-1.steam_pressure"
    assert identifiers(plant) == {**before, "pressure": "88.118.8/boiler-1.steam_pressure"}


def test_an_identifier_that_does_not_hold_the_name_is_not_written(plant: Plant) -> None:
    gateway = plant.config / "gateway.yaml"
    gateway.write_text(gateway.read_text().replace("{device}.{point}", "{device}.{tag}"))
    code, said = plant.run("rename", plant.config, "boiler-1", "running", "runs", "--apply")
    assert code == 0
    assert "  its identifier stays 88.118.8/boiler-1.XL-101\n" in said
    assert plant.boiler.read_text() == BOILER.replace("point: running", "point: runs")


def test_a_block_point(plant: Plant) -> None:
    plant.run("rename", plant.config, "boiler-1", "TI-101", "temperature", "--apply")
    assert plant.boiler.read_text() == BOILER.replace("point: steam_temperature", "point: temperature").replace(
        'unit: "℃"\n', 'unit: "℃"\n    id: "88.118.8/boiler-1.steam_temperature"\n'
    )


def test_what_cannot_be(plant: Plant) -> None:
    for old, new, message in (
        ("PI-102", "x", "device boiler-1 has no point with the name or tag PI-102; did you mean PI-101?"),
        ("PI-101", "running", "device boiler-1 has a point running already"),
        ("PI-101", "压力", "a local name has letters, digits, - and _ (at most 64), found '压力'"),
    ):
        code, said = plant.run("rename", plant.config, "boiler-1", old, new, "--apply")
        assert code == 2
        assert message in said
    code, said = plant.run("rename", plant.config, "boiler-9", "PI-101", "x")
    assert code == 2
    assert "there is no device boiler-9; devices: boiler-1, reactor-3" in said
    assert plant.boiler.read_text() == BOILER
