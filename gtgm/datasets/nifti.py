"""Read a NIfTI file completely, or say what is wrong with it.

The header is looked at as it was written, before nibabel repairs it, and the voxels that it
declares are compared with the bytes of the file and with the free memory before any is allocated.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.affines import voxel_sizes
from nibabel.arrayproxy import ArrayProxy
from nibabel.filebasedimages import ImageFileError
from nibabel.fileholders import FileHolder
from nibabel.openers import ImageOpener
from nibabel.orientations import io_orientation
from nibabel.spatialimages import HeaderDataError
from nibabel.wrapstruct import WrapStructError

from gtgm.datasets.guard import check_memory, check_regular
from gtgm.datasets.msd import SUFFIXES, is_nifti
from gtgm.errors import DataError

# Size of the header → class, place of the magic text, and the text.
KINDS = {348: (nib.Nifti1Image, 344, b"n+1\0"), 540: (nib.Nifti2Image, 4, b"n+2\0")}
GZIP = b"\x1f\x8b"
MAX_DEFLATE = 1032  # no byte of a gzip file unpacks to more bytes
MAX_BEHIND = 1 << 20  # bytes behind the voxels, which some tools leave
SIZES = (1e-4, 1e3)  # mm: from micro-CT to more than any voxel
MAX_PLACE = 1e6  # mm from the origin of the scanner
ROUNDING = 1e-3  # of sizes (a share) and of the angles between axes (their cosine)
NO_ORIENTATION = (
    "it states no orientation, qform_code and sform_code are 0",
    "a qform or sform that says which side is left",
    "set the orientation in the header if it is known; without, left and right are a guess",
)
SHEARED = "its axes are not at right angles, as of a tilted gantry"
STRAIGHTEN = (
    "resample image and label, for example with nibabel.processing.resample_to_output (order=0 "
    "for the label), or leave the case out"
)
# xyzt_units of lengths that are not mm; 0 says nothing and is taken for mm.
OTHER_UNITS = {1: "metres", 3: "micrometres"}
# What nibabel and gzip raise for a file that is truncated or not what its name says.
DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    KeyError,
    ArithmeticError,
    MemoryError,
    zlib.error,
    HeaderDataError,
    ImageFileError,
    WrapStructError,
)


def read_nifti(path: Path) -> tuple[Any, np.ndarray]:
    """Read a NIfTI file completely: the nibabel image and its scaled voxels (x, y, z[, c]).

    Without an orientation (codes of qform and sform both 0) nibabel's rule holds; ``verify``
    reports it.

    Raises:
        DataError: absent, not NIfTI, truncated or damaged (gzip's checksum included), not real
            numbers, more than fits into memory, lengths that are not mm, or no usable affine or
            spacing.
    """
    path = Path(path)
    if not is_nifti(path.name):
        raise DataError("this is no NIfTI file", where=path, expected=" or ".join(SUFFIXES[::-1]))
    packed = check_regular(path).startswith(GZIP)
    if packed != path.name.lower().endswith(".gz"):
        raise DataError(
            f"the file cannot be read: it is {'' if packed else 'not '}gzip-compressed",
            where=path,
            expected=".nii.gz for a compressed file, .nii for another",
            fix="rename it, or download it again if it is no NIfTI file",
        )
    try:
        image, array = _read(path)
    except DAMAGE as error:
        raise DataError(
            f"the file cannot be read ({type(error).__name__}: {error})",
            where=path,
            expected="a complete NIfTI file",
            fix=_advice(error),
        ) from error
    _check_affine(image.affine, path)
    return image, array


def _advice(error: Exception) -> str:
    if isinstance(error, MemoryError):
        return "close other programs, or use a machine with more memory"
    if getattr(error, "errno", None):  # of the system, not of what stands in the file
        return "check the disk, the network and the permissions of the file"
    return (
        "if a program is still writing it, wait until it has closed the file; else it is damaged "
        "or truncated: download or copy it again"
    )


def stored_shape(path: Path) -> tuple[int, ...]:
    """The shape (x, y, z[, c]) that a file declares that :func:`read_nifti` reads."""
    with ImageOpener(str(path)) as file:
        return _header(file.read(max(KINDS)), path)[1].get_data_shape()


def header_problems(image: Any) -> list[tuple[str, str, str]]:
    """What the header of an image (nibabel) says in two ways that contradict each other, and axes
    that are not at right angles: what it is, what was expected and what to do, of each."""
    header, affine, found = image.header, image.affine, []
    if not (header["qform_code"] or header["sform_code"]):
        found.append(NO_ORIENTATION)
    sizes, pixdim = voxel_sizes(affine), header["pixdim"][1:4]
    if not np.allclose(pixdim, sizes, rtol=ROUNDING, atol=0):
        found.append(
            (
                f"voxels are {_times(pixdim)} mm by pixdim and {_times(sizes)} mm by the affine",
                "the same sizes",
                "the affine counts; see which is right, and correct the other in the header",
            )
        )
    if header["qform_code"] > 0 and header["sform_code"] > 0:
        try:
            qform = header.get_qform()
        except ValueError:  # no rotation
            qform = np.full((4, 4), np.nan)
        if not np.isfinite(qform).all():
            found.append(
                (
                    "its qform is no rotation, though qform_code is above 0",
                    "the qform of the sform",
                    "the sform counts; correct the qform, or set qform_code to 0",
                )
            )
        elif (io_orientation(qform) != io_orientation(affine)).any():
            towards = [", ".join(nib.aff2axcodes(each)) for each in (affine, qform)]
            found.append(
                (
                    f"sform and qform contradict each other: axes run to {towards[0]} by the "
                    f"sform, to {towards[1]} by the qform",
                    "one orientation",
                    "the sform counts; see which side is left, and correct the other in the header",
                )
            )
    if is_sheared(affine):
        found.append(
            (
                SHEARED,
                "axes at right angles: nothing else can be scored by distance or resampled",
                STRAIGHTEN,
            )
        )
    return found


def box_sizes(affine: np.ndarray, path: Path) -> np.ndarray:
    """Voxel sizes in mm along the axes of a file, where they are the sides of a box.

    Raises:
        DataError: the axes are not at right angles, so that these sizes give no distances.
    """
    if is_sheared(affine):
        raise DataError(
            SHEARED,
            where=path,
            expected="axes at right angles, wherever distances are measured or voxels resampled",
            fix=STRAIGHTEN,
        )
    return voxel_sizes(affine)


def is_sheared(affine: np.ndarray) -> bool:
    """Whether two axes of a file are not at right angles, by more than is rounding."""
    axes = affine[:3, :3] / voxel_sizes(affine)
    return bool(np.abs(axes.T @ axes - np.eye(3)).max() > ROUNDING)


def _times(sizes: np.ndarray) -> str:
    return " × ".join(f"{size:.5g}" for size in sizes)


def _read(path: Path) -> tuple[Any, np.ndarray]:
    with ImageOpener(str(path)) as file:
        head = file.read(max(KINDS))
        image_class, header = _header(head, path)
        _check_geometry(header, path)
        _check_bytes(header, path)
        _check_extensions(file, header, path)
        # By its name, nibabel would look for scan.nii where scan.Nii lies.
        try:
            image = image_class.from_file_map({"image": FileHolder(str(path))})
        except ValueError as problem:
            raise DataError(
                f"the place of the voxels cannot be read from its header ({problem})",
                where=path,
                expected="a sform, or a qform that is a rotation",
                fix="repair the header (qform, sform)",
            ) from problem
        voxels = image.dataobj
        described = (voxels.shape, voxels.dtype, voxels.offset, voxels.slope, voxels.inter)
        array = np.asanyarray(ArrayProxy(file, described, mmap=False))
        # gzip compares its checksum only where its end is reached.
        behind = 0
        while more := file.read(1 << 16):
            behind += len(more)
            if behind > MAX_BEHIND:
                raise DataError(
                    f"the file goes on behind the voxels that it declares, {voxels.shape}",
                    where=path,
                    expected="as many voxels as the header says",
                    fix="repair dim or the datatype in the header, or get the file again",
                )
    return image, array


def _header(head: bytes, path: Path) -> tuple[type, Any]:
    """The class of the image, and its header as it was written."""
    orders = {int.from_bytes(head[:4], "little"): "<", int.from_bytes(head[:4], "big"): ">"}
    for size in orders.keys() & KINDS.keys():
        image_class, place, magic = KINDS[size]
        found = head[place : place + len(magic)]
        if len(head) < size:
            raise EOFError(f"{len(head)} bytes, the header alone takes {size}")
        if found == magic:
            return image_class, image_class.header_class(head[:size], orders[size], check=False)
        other = {b"ni1\0": "half of a pair (.hdr and .img)", b"\0\0\0\0": "Analyze 7.5"}
        raise DataError(
            f"this is {other[found]}"
            if size == 348 and found in other
            else f"the magic text is {found!r}",
            where=path,
            expected=f"NIfTI in one file, with {magic!r}",
            fix="convert it to .nii.gz, for example with nibabel",
        )
    raise DataError(
        f"the file cannot be read: it begins with {head[:8]!r}",
        where=path,
        expected="a NIfTI header, which begins with its size, 348 or 540",
        fix="check that this is a NIfTI file, and get it again",
    )


def _check_geometry(header: Any, path: Path) -> None:
    """The shape, the voxel sizes and their unit; nibabel repairs sizes of zero and below."""
    axes = int(header["dim"][0])
    shape = tuple(int(n) for n in header["dim"][1 : 1 + max(axes, 0)])
    if not 1 <= axes <= 7 or min(shape) < 1:
        raise DataError(
            f"the header declares {axes} axes of the shape {shape}",
            where=path,
            expected="1 to 7 axes of at least one voxel",
            fix="repair dim in the header, or get the file again",
        )
    zooms = np.asarray(header["pixdim"][1:4], dtype=float)
    if not ((zooms >= SIZES[0]) & (zooms <= SIZES[1])).all():
        raise DataError(
            f"the voxel spacing is {tuple(zooms.tolist())} mm",
            where=path,
            expected=f"three positive numbers, {SIZES[0]:g} to {SIZES[1]:g} mm",
            fix="repair pixdim in the header",
        )
    unit = OTHER_UNITS.get(int(header["xyzt_units"]) & 7)
    if unit:
        raise DataError(
            f"lengths are in {unit}",
            where=path,
            expected="mm",
            fix="convert pixdim and the affine to mm and set xyzt_units to 2",
        )


def _check_bytes(header: Any, path: Path) -> None:
    """The type of the voxels, and whether so many can be in the file and in memory."""
    try:
        dtype = header.get_data_dtype()
    except (KeyError, HeaderDataError):
        dtype = np.dtype("V0")
    if dtype.kind not in "iufb":
        name = f"of the unknown datatype {int(header['datatype'])}" if not dtype.itemsize else dtype
        raise DataError(f"voxels are {name}", where=path, expected="real numbers")
    if int(header["bitpix"]) != dtype.itemsize * 8:
        raise DataError(
            f"the header declares {int(header['bitpix'])} bits for voxels of the type {dtype}",
            where=path,
            expected=f"bitpix {dtype.itemsize * 8}",
            fix="repair bitpix or datatype in the header",
        )
    slope, inter = float(header["scl_slope"]), float(header["scl_inter"])
    scaled = slope != 0 and not math.isnan(slope)
    if scaled and not math.isfinite(slope * inter):
        raise DataError(
            f"the scaling of the voxels is {slope:g} · v + {inter:g}",
            where=path,
            expected="finite numbers",
            fix="repair scl_slope and scl_inter in the header",
        )
    offset = float(header["vox_offset"])
    if not int(header["sizeof_hdr"]) + 4 <= offset <= 2**53:
        raise DataError(
            f"the voxels begin at byte {offset:g}",
            where=path,
            expected="a place behind the header",
            fix="repair vox_offset in the header, or get the file again",
        )
    axes = int(header["dim"][0])
    voxels = math.prod(int(n) for n in header["dim"][1 : 1 + axes])
    stored = path.stat().st_size * (MAX_DEFLATE if path.name.lower().endswith(".gz") else 1)
    if offset + voxels * dtype.itemsize > stored:
        raise EOFError(
            f"{voxels} voxels of {dtype} from byte {offset:.0f} on are more than the file can hold"
        )
    # As in the file, scaled, and as float32.
    needed = voxels * (dtype.itemsize + 8 * scaled + 4)
    fix = "crop or resample it, or use a machine with more memory"
    check_memory(f"its {voxels} voxels", needed, path, fix)


def _check_extensions(file: Any, header: Any, path: Path) -> None:
    """The lengths of the header's extensions, which nibabel believes."""
    size = int(header["sizeof_hdr"])
    file.seek(size)
    if not file.read(4)[:1].strip(b"\0"):
        return
    left = int(header["vox_offset"]) - size - 4
    while left >= 16:
        length = int(np.frombuffer(file.read(8), dtype=f"{header.endianness}i4")[0])
        if not 8 <= length <= left:
            raise DataError(
                f"an extension of the header declares {length} bytes",
                where=path,
                expected=f"8 to {left}",
                fix="remove the extensions, or get the file again",
            )
        file.seek(file.tell() + length - 8)
        left -= length


def _check_affine(affine: np.ndarray, path: Path) -> None:
    axes = np.asarray(affine[:3, :3], dtype=float)
    sizes = np.sqrt((axes**2).sum(axis=0))
    good = np.isfinite(affine).all() and np.abs(affine).max() <= MAX_PLACE
    good = good and sizes.min() >= SIZES[0] and sizes.max() <= SIZES[1]
    if not (good and abs(np.linalg.det(axes / sizes)) > 1e-3):
        raise DataError(
            "the affine is singular, not finite or out of range",
            where=path,
            expected=f"three independent axes of {SIZES[0]:g} to {SIZES[1]:g} mm, "
            f"a place within {MAX_PLACE:g} mm",
            fix="repair the header (qform, sform)",
        )
