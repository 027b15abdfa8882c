"""KEPServerEX's tag CSV export: the columns of its heading record, its addresses, types and scaling."""

import yaml

from tests.unit.tables.plant import Plant

HEADING = (
    "Tag Name,Address,Data Type,Respect Data Type,Client Access,Scan Rate,Scaling,Raw Low,Raw High,Scaled Low,"
    "Scaled High,Scaled Data Type,Clamp Low,Clamp High,Eng Units,Description,Negate Value\n"
)
MODBUS = HEADING + (
    '"Pressure","400001","Float",1,"RO",100,,,,,,,,,"MPa","Steam pressure",\n'
    '"Steam.Level","400003","Word",1,"R/W",1000,"Linear",0,27648,0,1600,"Double",0,0,"mm","",0\n'
    '"Draft","41","Short",1,"RO",1000,"Linear",-100,100,-50,50,"Double",0,0,"Pa","",1\n'
    '"Alarm","400010.3","Boolean",1,"RO",100,,,,,,,,,,"",\n'
    '"Serial","400020.16H","String",1,"RO",60000,,,,,,,,,,"",\n'
    '"Profile","300100 [4]","Float Array",1,"RO",1000,,,,,,,,,,"",\n'
    '"Run","000001","Boolean",1,"R/W",100,,,,,,,,,,"",\n'
    '"Total","400030","LBCD",1,"RO",1000,,,,,,,,,,"",\n'
    '"Command","400040","Word",1,"WO",100,,,,,,,,,,"",\n'
)


def imported(plant: Plant, table: str, device: str, *more: str) -> tuple[str, dict[str, dict[str, object]]]:
    file = plant.csv(table, name="tags.csv")
    code, said = plant.run("import", file, plant.config, "--device", device, *more, "--apply")
    assert code == 0, said
    points = yaml.safe_load((plant.config / "devices" / f"{device}.yaml").read_text())["points"]
    return said, {point.pop("point"): point for point in points}


def test_modbus(plant: Plant) -> None:
    said, points = imported(plant, MODBUS, "kep", "--url", "tcp://192.168.1.30:502")
    assert said.startswith(
        "note: tags: row 10 (Command) can only be written and is left out\n"
        "note: tags: KEPServerEX's export; values of 32 and 64 bits are read as CDAB, its default (First word low); "
        "--order ABCD where that was switched off\n"
    )
    assert points == {
        "Pressure": {
            "name": "Steam pressure", "tag": "Pressure", "address": "modicon 400001", "type": "float32",
            "order": "CDAB", "unit": "MPa", "every": "100ms",
        },
        "Steam_Level": {
            "tag": "Steam.Level", "address": "modicon 400003", "type": "uint16", "scale": 1600 / 27648, "unit": "mm",
            "every": "1000ms",
        },
        "Draft": {
            "tag": "Draft", "address": "modicon 40001", "type": "int16", "scale": -0.5, "unit": "Pa", "every": "1000ms",
        },
        "Alarm": {"tag": "Alarm", "address": "modicon 400010", "type": "bool", "bit": 3, "every": "100ms"},
        "Serial": {"tag": "Serial", "address": "modicon 400020", "type": "string", "length": 16, "every": "60000ms"},
        "Profile": {
            "tag": "Profile", "address": "modicon 300100", "type": "float32", "order": "CDAB", "count": 4,
            "every": "1000ms",
        },
        "Run": {"tag": "Run", "address": "modicon 000001", "type": "bool", "every": "100ms"},
        "Total": {"tag": "Total", "address": "modicon 400030", "type": "bcd", "length": 2, "every": "1000ms"},
    }  # fmt: skip


def test_the_order_can_be_told(plant: Plant) -> None:
    said, points = imported(plant, MODBUS, "kep", "--url", "tcp://192.168.1.30:502", "--order", "1234")
    assert "CDAB" not in said
    assert points["Pressure"]["order"] == "ABCD"


def test_opc_ua(plant: Plant) -> None:
    table = HEADING + '"Temp","ns=2;s=R3.Temp","Float",1,"RO",500,,,,,,,,,"degC","Reactor",\n'
    said, points = imported(plant, table, "kep", "--url", "opc.tcp://10.0.0.9:4840")
    assert "CDAB" not in said
    assert points == {
        "Temp": {
            "name": "Reactor", "tag": "Temp", "node": "ns=2;s=R3.Temp", "type": "float32", "unit": "degC",
            "sampling": "500ms",
        }
    }  # fmt: skip


def test_what_cannot_be_taken_over_is_named(plant: Plant) -> None:
    table = HEADING + (
        '"Flow","400001","Float",1,"RO",100,"Square Root",0,1,0,1,,,,,,\n'
        '"Flow2","400003","Float",1,"RO",100,"Linear",5,5,0,1,,,,,,\n'
        '"Date","400005","Foo",1,"RO",100,,,,,,,,,,,\n'
    )
    code, said = plant.run("import", plant.csv(table), plant.config, "--device", "boiler-1")
    assert code == 2
    assert (
        "boiler-1, row 2, column G (Scaling): scaling Square Root cannot be done with a scale and an offset\n"
        "    set Linear or None there\n"
        "boiler-1, row 3, column G (Scaling): Raw Low and Raw High are both 5\n"
        "boiler-1, row 4, column C (Data Type): 'Foo' is no data type that is known here\n"
    ) in said
