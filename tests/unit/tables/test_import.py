"""`points import`: what is shown, what is written, and that nothing else is touched."""

import json
from pathlib import Path

from tests.unit.tables.plant import BOILER, Plant

CHANGED = """\
位号,名称,地址,数据类型,字节序,倍率,单位
PI-101,蒸汽压力,holding 0,REAL,CDAB,,kPa
TI-101B,,40003,INT,,0.01,
XL-101,,10001,BOOL,,,
FI-101,蒸汽流量,4x0011,浮点,3412,,t/h
"""


def test_dry_run_shows_and_writes_nothing(plant: Plant) -> None:
    code, said = plant.run("import", plant.csv(CHANGED), plant.config)
    assert code == 0
    assert said == (
        "boiler-1: 1 new, 2 changed, 0 gone, 1 unchanged\n"
        "  + {point: FI-101, name: 蒸汽流量, tag: FI-101, address: holding 10, type: float32, order: CDAB, unit: t/h}\n"
        "  ~ steam_pressure (PI-101), row 2: name: (none) -> 蒸汽压力; unit: MPa -> kPa\n"
        "  ~ steam_temperature (TI-101), row 3: tag: TI-101 -> TI-101B; scale: 0.1 -> 0.01\n"
        "nothing is written yet; --apply writes it\n"
    )
    assert plant.boiler.read_text() == BOILER


def test_apply_changes_only_what_is_different(plant: Plant) -> None:
    code, said = plant.run("import", plant.csv(CHANGED), plant.config, "--apply")
    assert code == 0
    assert said.endswith("written; what was there before lies beside it as .bak\n")
    wanted = (
        BOILER.replace("steam_pressure, tag", "steam_pressure, name: 蒸汽压力, tag")
        .replace("unit: MPa", "unit: kPa")
        .replace("tag: TI-101\n", "tag: TI-101B\n")
        .replace("scale: 0.1", "scale: 0.01")
        .replace(
            "# the end",
            "  - {point: FI-101, name: 蒸汽流量, tag: FI-101, address: holding 10, type: float32, order: CDAB, "
            "unit: t/h}\n# the end",
        )
    )
    assert plant.boiler.read_text() == wanted
    assert plant.boiler.with_name("boiler-1.yaml.bak").read_text() == BOILER
    assert plant.run("import", plant.csv(CHANGED), plant.config) == (
        0,
        "boiler-1: 0 new, 0 changed, 0 gone, 4 unchanged\nnothing to do: the config says what the table says\n",
    )


def test_gone_points_stay_without_remove(plant: Plant) -> None:
    table = plant.csv("位号,地址,类型\nPI-101,holding 0,REAL\n")
    code, said = plant.run("import", table, plant.config, "--apply")
    assert code == 0
    assert said == (
        "boiler-1: 0 new, 0 changed, 2 gone, 1 unchanged\n"
        "  - not in the table, these stay (--remove takes them out): steam_temperature (TI-101), running (XL-101)\n"
        "nothing to do: the config says what the table says\n"
    )
    assert plant.boiler.read_text() == BOILER
    plant.run("import", table, plant.config, "--apply", "--remove")
    before, _, rest = BOILER.partition("  - point: steam_temperature")
    assert plant.boiler.read_text() == before + rest[rest.index("\n\n") + 1 :].replace(
        "  - {point: running, tag: XL-101, address: discrete 0, type: bool}\n", ""
    )


def test_a_dash_takes_a_key_away_and_an_empty_cell_keeps_it(plant: Plant) -> None:
    table = plant.csv("位号,地址,类型,倍率,单位\nPI-101,holding 0,REAL,,—\nTI-101,40003,INT,/,\nXL-101,10001,BOOL,,\n")
    code, said = plant.run("import", table, plant.config, "--apply")
    assert code == 0
    assert "  ~ steam_pressure (PI-101), row 2: unit: MPa -> (none)\n" in said
    assert "  ~ steam_temperature (TI-101), row 3: scale: 0.1 -> (none)\n" in said
    assert plant.boiler.read_text() == BOILER.replace(", unit: MPa", "").replace("    scale: 0.1\n", "")


def test_a_config_that_would_not_pass_is_not_written(plant: Plant) -> None:
    plant.boiler.write_text(BOILER.replace("points:", "unreadable: [holding 40-49]\npoints:"))
    before = plant.boiler.read_text()
    code, said = plant.run("import", plant.csv("位号,地址,类型\nPI-7,holding 41,WORD\n"), plant.config, "--apply")
    assert code == 2
    assert "config/devices/boiler-1.yaml:" in said
    assert "PI-7 lies in holding 40-49, which `unreadable` says must not be read" in said
    assert said.endswith("1 problem; nothing is written: correct the table, then import it again\n")
    assert "/tmp/" not in said
    assert plant.boiler.read_text() == before
    assert sorted(path.name for path in plant.boiler.parent.iterdir()) == ["boiler-1.yaml", "reactor-3.yaml"]


def test_a_new_device_needs_a_url(plant: Plant) -> None:
    table = plant.csv("位号,地址,类型\n锅炉压力,40001,REAL\n", name="new.csv")
    assert plant.run("import", table, plant.config, "--device", "boiler-2") == (
        2,
        "new: there is no device boiler-2\n"
        "    a new device needs --url, e.g. --url tcp://192.168.1.20:502 (with --station 1) or --url "
        "opc.tcp://HOST:4840\n"
        "1 problem; nothing is written: correct the table, then import it again\n",
    )
    code, _ = plant.run(
        "import", table, plant.config, "--device", "boiler-2", "--url", "tcp://192.168.1.21:502", "--station", "3",
        "--apply",
    )  # fmt: skip
    assert code == 0
    assert (plant.config / "devices" / "boiler-2.yaml").read_text() == (
        "device: boiler-2\n"
        "adapter: modbus\n"
        'connection: {url: "tcp://192.168.1.21:502", station: 3}\n'
        "points:\n"
        "  - {point: u9505u7089u538Bu529B, tag: 锅炉压力, address: modicon 40001, type: float32}\n"
    )


def test_the_first_device_of_an_empty_folder(plant: Plant) -> None:
    for file in (plant.config / "devices").iterdir():
        file.unlink()
    table = plant.csv("Tag;NodeId\nTIC-301.PV;ns=2;s=x\n".replace("ns=2;s=x", '"ns=2;s=x"'), name="r.csv")
    code, said = plant.run(
        "import", table, plant.config, "--device", "r1", "--url", "opc.tcp://10.0.0.7:4840", "--apply"
    )
    assert (code, said.splitlines()[1]) == (0, '  + {point: TIC-301_PV, tag: TIC-301.PV, node: "ns=2;s=x"}')


def test_points_of_a_template_get_an_entry_with_what_differs(plant: Plant) -> None:
    (plant.config / "templates").mkdir()
    head, _, points = BOILER.partition("points:\n")
    (plant.config / "templates" / "steam.yaml").write_text("points:\n" + points)
    plant.boiler.write_text(head.replace("adapter:", "template: steam\nadapter:"))
    code, _ = plant.run("import", plant.csv("位号,地址,单位\nPI-101,holding 0,kPa\n"), plant.config, "--apply")
    assert code == 0
    assert plant.boiler.read_text() == head.replace("adapter:", "template: steam\nadapter:") + (
        "points:\n  - {point: steam_pressure, unit: kPa}\n"
    )


def test_json_for_programs(plant: Plant) -> None:
    code, said = plant.run("import", plant.csv(CHANGED), plant.config, "--json")
    report = json.loads(said)
    assert (code, report["state"]) == (0, "shown")
    assert report["devices"][0]["changed"][0] == {
        "point": "steam_pressure",
        "row": 2,
        "keys": {"name": {"from": None, "to": "蒸汽压力"}, "unit": {"from": "MPa", "to": "kPa"}},
    }


def test_a_file_with_crlf_keeps_it(plant: Plant) -> None:
    plant.boiler.write_bytes(BOILER.replace("\n", "\r\n").encode())
    plant.run("import", plant.csv(CHANGED), plant.config, "--apply")
    written = plant.boiler.read_bytes()
    assert b"point: FI-101" in written
    assert written.count(b"\n") == written.count(b"\r\n")


def test_no_such_file(plant: Plant) -> None:
    code, said = plant.run("import", plant.root / "gone.xlsx", plant.config)
    assert (code, said) == (2, "gone.xlsx: there is no such file\n")


def test_no_table(plant: Plant) -> None:
    file: Path = plant.csv("hello,world\n1,2\n")
    assert plant.run("import", file, plant.config) == (
        2,
        "note: boiler-1: no row of headings, the sheet is left out\n"
        "boiler-1.csv: no sheet has a row of headings\n"
        "    a table has a row with at least 位号 (or 名称) and 地址, e.g. 位号 | 名称 | 地址 | 数据类型 | 单位\n"
        "1 problem; nothing is written: correct the table, then import it again\n",
    )
