"""Which layers lie on which tiles."""

import copy

import torch
from torch import nn

from analog_glue.devices.ideal import Ideal
from analog_glue.devices.pcm import PCM
from analog_glue.nn.hardware import Hardware
from analog_glue.nn.placement import Placement
from analog_glue.tiles.crossbar import Crossbar

TILE = Crossbar(rows=10, columns=8)


def network():
    return nn.Sequential(nn.Linear(25, 9), nn.Tanh(), nn.Linear(9, 17), nn.Linear(17, 3))


def test_every_layer_lies_on_as_few_tiles_as_hold_it_in_the_order_of_the_model():
    placement = Placement.of(network(), Hardware(PCM(), TILE, ("*", "!2")))
    assert list(placement.grids) == ["0", "3"]
    assert placement.grids["0"].row_blocks == (9, 8, 8)
    assert placement.grids["0"].column_blocks == (5, 4)
    assert placement.grids["3"].tiles == 2


def test_it_holds_for_copies_of_the_model_and_gives_their_own_layers():
    model = network()
    placement, other = Placement.of(model, Hardware(PCM(), TILE)), copy.deepcopy(model)
    layers = placement.layers(other)
    assert layers["3"] is other[3]
    assert layers["3"].weight is not model[3].weight
    assert all(layers[name].weight.shape == (grid.outputs, grid.inputs) for name, grid in placement.grids.items())


def test_other_devices_lie_on_the_same_tiles():
    placement = Placement.of(network(), Hardware(PCM(), TILE))
    ideal = placement.with_devices(Ideal(g_max=25.0))
    assert ideal.grids is placement.grids
    assert (ideal.hardware.device, ideal.hardware.crossbar) == (Ideal(g_max=25.0), TILE)


def test_a_module_with_several_names_is_placed_once():
    shared = nn.Linear(4, 4)
    model = nn.ModuleDict({"first": shared, "second": shared})
    placement = Placement.of(model, Hardware(PCM(), TILE))
    assert list(placement.grids) == ["first"]
    with torch.no_grad():
        assert placement.layers(model)["first"] is shared
