"""The T1 reading: sides from geometry, only T1, silent where no slice runs along the disc; what it says in a finding."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from dicom_io.geometry import Grid, SourceInstance, Volume
from dicom_io.study import Stack
from inference.axial_t1 import T1Herniation, read_axial_t1
from inference.canal_pose import MAPS, canal_pose
from inference.grade import REAL, read_level
from inference.provenance import NOTES
from inference.segment import AxialReading, AxialSlice, Window, class_names
from inference.sizes import Missing
from models.calibration import LogisticHead
from models.intensity import InputSpec
from models.mirror import SCORES, MirrorEnsemble
from models.mirror_scores import MirrorReader, reads
from models.networks import build
from models.weights import Card, WeightsError, load_card, save_weights, with_partners, write_card
from tests.training.test_notes import mirrored, window
from training.notes_recipe import notes_recipe
from training.simulated_disc import simulated_disc


def head(feature: str) -> LogisticHead:
    return LogisticHead(features=(feature,), mean=(0.0,), scale=(1.0,), weights=(1.0,), intercept=0.0, fitted_on="test")


@pytest.fixture(scope="module")
def reader() -> MirrorReader:
    """A network that looks only at the disc and the material behind it: more of it on one side is that side."""
    network = build(notes_recipe().network)
    assert isinstance(network, MirrorEnsemble)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        for number in range(notes_recipe().folds):
            linear = network.member(number).linear
            side = linear.side.weight.view(1, 3, 26, 14)
            side[:, 1] = 1.0
            linear.presence.bias.fill_(2.0)
    card = Card(
        name="notes",
        network=notes_recipe().network,
        input=InputSpec(spacing_mm=canal_pose().maps.step_mm),
        classes=SCORES,
        trained_on="made up",
        recipe="none",
        command="none",
        metrics={"reads": {other.name: other.sha256 for other in with_partners("axial", alone=True)}},
        heads={"herniation": head("herniation_against_none"), "side": head("side")},
        constants={"side_band": 0.2},
    )
    return MirrorReader(card, network.eval())


def axial_reading(
    *, turned: bool = False, role: str = "axial_t1", offset: float = 1.0, tilt: float = 5.0
) -> AxialReading:
    image, probabilities = window(bump_column=96.0)
    if turned:
        image, probabilities = image[:, ::-1].copy(), mirrored(probabilities).copy()
    patch = Window(np.array([-48.0, -60.0, 0.0]), np.array([0.0, 0.6, 0.0]), np.array([0.6, 0.0, 0.0]), 160)
    instance = SourceInstance("1.2.3")
    item = AxialSlice(0, instance, offset, tilt, patch, image, probabilities)
    volume = Volume(np.zeros((1, 2, 2), dtype=np.float32), Grid((1, 2, 2), np.eye(4)), (instance,))
    disc = simulated_disc(np.zeros(3), np.array([0.0, 0.0, 1.0]))
    stack = Stack(volume, role, "1.2.9", "", None, "", None, None)
    return AxialReading(disc, stack, class_names(), (item,), float("inf"), None)


def found(axial: AxialReading, reader: MirrorReader) -> T1Herniation:
    result = read_axial_t1(axial, reader)
    assert isinstance(result, T1Herniation)
    return result


def test_material_on_the_patients_left_is_told_left_and_its_mirror_image_right(reader: MirrorReader) -> None:
    left, right = found(axial_reading(), reader), found(axial_reading(turned=True), reader)
    assert (left.side, right.side) == ("left", "right")
    assert left.side_probability == pytest.approx(right.side_probability, abs=1e-5)
    assert left.probability == pytest.approx(right.probability, abs=1e-5)


def test_no_side_is_told_within_the_band(reader: MirrorReader) -> None:
    wide = replace(reader, card=reader.card.model_copy(update={"constants": {"side_band": 1e6}}))
    assert found(axial_reading(), wide).side is None


def test_a_t2_stack_is_refused(reader: MirrorReader) -> None:
    with pytest.raises(ValueError, match="axial T1 alone"):
        read_axial_t1(axial_reading(role="axial_t2"), reader)


@pytest.mark.parametrize("case", [{"offset": 9.0}, {"tilt": 35.0}])
def test_a_slice_that_is_far_from_the_disc_or_oblique_to_it_tells_nothing(
    reader: MirrorReader, case: dict[str, float]
) -> None:
    assert isinstance(read_axial_t1(axial_reading(**case), reader), Missing)


def test_the_finding_names_side_slice_and_basis_and_claims_no_millimetres(reader: MirrorReader) -> None:
    seen = found(axial_reading(), reader)
    axial = load_card("axial")
    read = read_level("L4-L5", axial_reading().disc, None, None, axial, axial_t1=seen)
    finding = next(item for item in read.findings if item.kind == "herniation")
    assert (finding.side, finding.type, finding.basis) == ("left", "protrusion", REAL)
    assert finding.severity == "normal_mild"
    assert {item.unit for item in finding.measurements} == {"1"}
    assert finding.evidence[0].sop_instance_uid == "1.2.3"
    unsure = replace(seen, side=None)
    other = read_level("L4-L5", axial_reading().disc, None, None, axial, axial_t1=unsure)
    assert next(item for item in other.findings if item.kind == "herniation").side == "midline"
    assert {item.kind for item in other.withheld} == {"recess_stenosis", "canal_stenosis"}


def test_a_network_taught_on_the_maps_of_another_axial_network_is_not_used(reader: MirrorReader, tmp_path) -> None:  # type: ignore[no-untyped-def]
    digest = save_weights(reader.network, tmp_path / "notes.safetensors")
    card = reader.card.model_copy(update={"sha256": digest})
    write_card(card, tmp_path)
    for other in with_partners("axial"):
        write_card(other, tmp_path)
    maps = np.zeros((len(MAPS), canal_pose().maps.rows, canal_pose().maps.columns))
    assert not MirrorReader.load(NOTES, cards=tmp_path, weights=tmp_path).read(maps).side_told
    write_card(card.model_copy(update={"metrics": {"reads": {"axial": "0" * 64}}}), tmp_path)
    assert reads(load_card(NOTES, tmp_path)) == {"axial": "0" * 64}
    with pytest.raises(WeightsError, match="recess-train fit notes --ship"):
        MirrorReader.load(NOTES, cards=tmp_path, weights=tmp_path)


def test_a_partner_that_came_later_changes_the_maps_and_the_network_is_not_used(reader: MirrorReader, tmp_path) -> None:  # type: ignore[no-untyped-def]
    digest = save_weights(reader.network, tmp_path / "notes.safetensors")
    axial = load_card("axial")
    alone = reader.card.model_copy(update={"sha256": digest, "metrics": {"reads": {"axial": axial.sha256}}})
    for card in (alone, axial.model_copy(update={"partner": None})):
        write_card(card, tmp_path)
    MirrorReader.load(NOTES, cards=tmp_path, weights=tmp_path)
    later = axial.model_copy(update={"name": "later", "partner": None, "sha256": "1" * 64})
    for card in (axial.model_copy(update={"partner": "later"}), later):
        write_card(card, tmp_path)
    with pytest.raises(WeightsError, match="later 111111111111"):
        MirrorReader.load(NOTES, cards=tmp_path, weights=tmp_path)
