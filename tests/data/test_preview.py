import numpy as np

from qsam2_deploy.data.clips.preview import contact_sheet, outline
from qsam2_deploy.data.sample import Clip


def test_outline_is_the_rim_of_the_mask():
    mask = np.zeros((7, 7), bool)
    mask[1:6, 1:6] = True
    rim = outline(mask)
    assert rim.sum() == 16
    assert not rim[2:5, 2:5].any()


def test_sheet_has_a_row_per_clip():
    masks = np.zeros((3, 2, 8, 8), bool)
    masks[:, 0, 2:5, 2:5] = True
    clip = Clip(np.full((3, 8, 8, 3), 9, np.uint8), masks)
    sheet = contact_sheet([clip, clip])
    assert sheet.shape == (4 * 8, 3 * 8, 3)
    assert (sheet[:8] == 9).all()
    assert sheet[8 + 2, 2].tolist() == [255, 40, 40]
    assert contact_sheet([clip], plain=False).shape == (8, 24, 3)
