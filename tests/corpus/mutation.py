"""Seeded damage to good files: single bits, bytes, cuts, insertions, elements moved; and texts to be looked for in every output."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from pydicom.dataset import Dataset

from tests.corpus.edit import compressed
from tests.corpus.small_study import File, datasets, encode

TEXT_FIELDS = (
    *("PatientName", "PatientID", "OtherPatientIDs", "PatientAddress", "PatientComments", "PatientTelephoneNumbers"),
    *(
        "IssuerOfPatientID",
        "EthnicGroup",
        "Occupation",
        "AdditionalPatientHistory",
        "MilitaryRank",
        "PatientMotherBirthName",
    ),
    *(
        "AccessionNumber",
        "StudyID",
        "StudyDescription",
        "SeriesDescription",
        "ProtocolName",
        "RequestedProcedureDescription",
    ),
    *(
        "ReferringPhysicianName",
        "PerformingPhysicianName",
        "OperatorsName",
        "PhysiciansOfRecord",
        "RequestingPhysician",
    ),
    *("NameOfPhysiciansReadingStudy", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName"),
    *("StationName", "Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "SoftwareVersions"),
    *(
        "ImageComments",
        "AcquisitionComments",
        "ContrastBolusAgent",
        "BodyPartExamined",
        "SequenceName",
        "ReasonForStudy",
    ),
    *("AdmittingDiagnosesDescription", "MedicalAlerts", "Allergies"),
)


def canaries(seed: int = 0) -> dict[str, str]:
    """A unique token for every text field."""
    rng = np.random.default_rng(seed)
    return {field: "ZQ" + "".join("BCDFGHJKLMNPRSTVWX"[n] for n in rng.integers(0, 18, 9)) for field in TEXT_FIELDS}


def with_canaries(dataset: Dataset, tokens: dict[str, str]) -> Dataset:
    """The data set with a token in every text field, and in a private element."""
    for field, token in tokens.items():
        setattr(dataset, field, token)
    block = dataset.private_block(0x0019, "RECESS TEST", create=True)
    block.add_new(1, "LO", tokens["PatientName"] + "P")
    return dataset


def sources(seed: int) -> list[bytes]:
    """Whole files to be damaged: plain and compressed."""
    made = datasets(seed)
    plain = [encode(made[number][1]) for number in (0, 20, 35)]
    syntaxes = ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1.99")
    packed = ("1.2.840.10008.1.2.5", "1.2.840.10008.1.2.4.80", "1.2.840.10008.1.2.4.90")
    return [
        *plain,
        *(encode(made[7][1], syntax) for syntax in syntaxes),
        *(compressed(made[8][1], syntax) for syntax in packed),
    ]


def mutations(count: int, seed: int) -> Iterator[File]:
    """`count` damaged files. The damage falls on the header three times out of four."""
    rng = np.random.default_rng(seed)
    whole = sources(0)
    for number in range(count):
        data = bytearray(whole[int(rng.integers(len(whole)))])
        kind = int(rng.integers(7))
        for _ in range(int(rng.integers(1, 4))):
            end = len(data) if rng.random() < 0.25 else min(len(data), 1700)
            at = int(rng.integers(0, max(end, 1)))
            if kind == 0:
                data[at] ^= 1 << int(rng.integers(8))
            elif kind == 1:
                data[at] = int(rng.integers(256))
            elif kind == 2:
                data[at : at + 4] = int(rng.choice([0, 1, 0xFFFFFFFF, 0x7FFFFFFF, 0xFFFE])).to_bytes(4, "little")
            elif kind == 3:
                del data[at : at + int(rng.integers(1, 64))]
            elif kind == 4:
                data[at:at] = rng.bytes(int(rng.integers(1, 64)))
            elif kind == 5:
                length = int(rng.integers(8, 200))
                data[at:at] = data[at : at + length]
            else:
                del data[at:]
                break
        yield f"mutation {seed}/{number}", bytes(data)
