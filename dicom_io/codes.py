"""Every code a reader of a study may meet, with the sentence a person sees: what happened and what to do.

Codes are stable and never renamed; a text may be reworded. Outcomes are those of PS3.4 storage and of our own geometry rules.
"""

from __future__ import annotations

from dicom_io.study import Notice

OBJECT: dict[str, str] = {
    "EMPTY": "The file is empty; send it again.",
    "NOT_DICOM": "Not a DICOM object; nothing to do unless it should be one.",
    "TRUNCATED": "The file is cut short or damaged; export it again.",
    "LENGTH_INVALID": "An element claims more bytes than the file has; export it again.",
    "DEPTH": "Sequences are nested too deeply to be genuine; the object was refused.",
    "TOO_MANY_ELEMENTS": "Too many elements to be genuine; the object was refused.",
    "ELEMENT_TOO_LARGE": "One element outside the pixel data is too large; the object was refused.",
    "TOO_LARGE": "The object is larger than the limit; split it or raise object.max_bytes.",
    "LIMIT": "Reading the object needed more memory or depth than is allowed; it was refused.",
    "DECOMPRESSION_LIMIT": "The deflated object grows beyond the limit; export it uncompressed.",
    "DIMENSION_LIMIT": "Rows, columns or frames exceed the limit; the object was refused before decoding.",
    "UID_MISSING": "A study, series or instance UID is absent; the object cannot be filed.",
    "UID_MALFORMED": "A UID holds other than digits and dots or is too long; the object cannot be filed.",
    "META_UID_MISMATCH": "File header and data set disagree on what the object is; export it again.",
    "FRAMES_INCONSISTENT": "The number of frames and their descriptions disagree; export the series again.",
    "VR_INVALID": "An element has an impossible type; export the object again.",
    "TAG_DUPLICATE": "An element occurs twice; which one holds cannot be known. Export the object again.",
    "TRAILING_BYTES": "Bytes follow the end of the object; export it again.",
    "SYNTAX_UNKNOWN": "The transfer syntax is absent, private or unknown; export as Explicit VR Little Endian.",
    "SYNTAX_MISMATCH": "The object is encoded otherwise than its header says; export it again.",
    "PIXEL_LENGTH": "The pixel data have not the length that rows, columns and bits demand; export the image again.",
    "PIXEL_FORMAT": "Bits, sign or kind of the pixel data are inconsistent or unsupported; export the image again.",
    "DECODE": "The compressed pixel data cannot be decoded; export as Explicit VR Little Endian.",
    "JPEG_12_BITS": "JPEG of 12 bits is not read, since decoders disagree on it; export as Explicit VR Little Endian.",
    "COLOUR": "A colour image is no MR slice that can be measured; left out.",
    "SOP_UID_CROSS_PATIENT": "One SOP Instance UID occurs in two patients; neither study is read. Export both again.",
    "DICOMDIR": "A directory of other files, not an image; hand in the folder with the images.",
    "DICOMDIR_PATH": "A directory file that points outside its folder; refused, and none of its references is followed.",
    "GROWING": "The file changed while it was being read; wait until it is copied whole and try again.",
    "INTERNAL": "The object could not be read for an unexpected reason; it was set aside.",
    "IO": "The file could not be read from the disk; check it and try again.",
    "NOT_REGULAR": "A link or special file; only plain files are read.",
    "ARCHIVE_INVALID": "The archive entry is damaged or encrypted; pack the study again.",
    "CHILD_TIME": "Decoding took longer than allowed; the object was given up.",
    "CHILD_DIED": "The decoder stopped on this object, by a crash or by its limits; the object was given up.",
    "CHILD_PROTOCOL": "The decoder answered outside its protocol; the object was given up.",
    "NOT_EXAMINED": "Not examined, because too many objects before it made the decoder fail.",
}

OBJECT_WARNINGS: dict[str, str] = {
    "NO_PREAMBLE": "Objects without the DICOM preamble were read.",
    "PREAMBLE_EXECUTABLE": "Objects begin like a program; never run them.",
    "TAG_ORDER": "Elements are out of order; read all the same.",
    "PIXEL_TRAILING": "Zeros follow the pixel data; ignored.",
    "LOSSY": "Pixels were stored with lossy compression; fine borders may be altered.",
    "CLASS_ABSENT": "SOP Class UID is absent in the data sets; read as single-frame MR images.",
    "UID_LENIENT": "UIDs carry padding or leading zeros; compared after trimming.",
    "TEXT_CONTROL": "Texts hold control characters; they were replaced by spaces.",
    "CHARSET": "Texts do not fit the character set they claim; unreadable letters were replaced.",
    "BURNED_IN": "Text or graphics lie over pictures; what they cover is not seen.",
    "TEXT_INVALID": "A text could not be decoded and counts as absent.",
}

SERIES: dict[str, str] = {
    "MODALITY": "Not an MR image; left out.",
    "NO_IMAGE": "An MR object without an image; left out.",
    "MOSAIC": "A vendor mosaic of many slices in one picture; left out. Export the original slices.",
    "DERIVED": "Derived images (reformatted, projected, subtracted); left out. Send the acquired series.",
    "NO_POSITION": "Image Position (Patient) is absent; left out, because nothing can be placed without it.",
    "NO_ORIENTATION": "Image Orientation (Patient) is absent; left out, because sides cannot be known without it.",
    "NO_PIXEL_SPACING": "Pixel Spacing is absent; left out, because millimetres cannot be known without it.",
    "NUMBER_INVALID": "A number that decides the geometry is not a valid decimal string; left out and not guessed.",
    "IOP_INVALID": "Image Orientation (Patient) is not two perpendicular unit vectors; left out.",
    "ORIENTATION_SCOPE": "The slices stand more than 45 degrees off every plane; left out.",
    "RESOLUTION": "Pixel or slice spacing lies outside the range that can be measured; left out.",
    "FOV": "The field of view lies outside the range of a lumbar series; left out.",
    "TOO_FEW_SLICES": "Too few slices at a regular distance; left out.",
    "POSITION_DUPLICATE": "Several different images claim one position; left out, because which holds cannot be known.",
    "POSITION_INVALID": "Slice positions follow no regular step or contradict the pictures; left out.",
    "CONTENT_OUTLIER": "A picture does not continue its neighbours and may belong elsewhere or to somebody else; left out.",
    "SOP_UID_CONFLICT": "Different images of one series share one SOP Instance UID; left out.",
    "SERIES_UID_REUSED": "The series UID occurs in two studies; left out.",
    "RESCALE_INVALID": "Rescale slope or intercept is zero, not finite or absurd; left out.",
    "SATURATED": "More than a fifth of a picture is clipped at its highest value; left out, borders cannot be seen.",
    "BLANK": "The images are empty (one value everywhere); left out.",
}

STACK_WARNINGS: dict[str, str] = {
    "SLICE_MISSING": "A slice is missing; the stack was split at the gap and nothing is measured across it.",
    "OVERLAP": "Two blocks of slices lie into each other; they were taken apart, each with its own step.",
    "SPACING_TAG": "Spacing Between Slices or Slice Thickness contradicts the positions; the positions hold.",
    "SHEARED": "Slices are shifted in-plane against each other; every slice keeps its own position.",
    "IOP_ROUNDED": "Orientation vectors were slightly off a right angle and were straightened.",
    "FEW_SLICES": "Only one or two slices at this tilt; kept, since each is measured in its own plane.",
    "WEIGHTING_UNCERTAIN": "TE and TR are absent and the pixels leave the weighting in doubt; send the original headers.",
    "CONTRAST_TYPE": "Not a plain T1 or T2 weighting; listed, and not read as T2.",
    "MULTI_CONTRAST": "Several echoes or times share one series; they were separated.",
}

STUDY: dict[str, str] = {
    "PATIENT_CONFLICT": "Objects of two patients carry one study UID; nothing is read. Separate the patients and send again.",
    "AGE_SCOPE": "The patient is younger than the age this program is made for; nothing is read.",
    "POSITION_TAG": "Patient Position is unknown or differs within the study; the orientation of the images holds.",
    "PROTOCOL": "Field strength outside the usual range; what is seen less well may be withheld.",
    "NO_MR": "No MR image series in the study.",
    "NO_MM": "Pixel Spacing is absent or invalid in every series, so nothing can be measured; export with original headers.",
    "NO_USABLE_SERIES": "No MR series with usable geometry is left in the study.",
    "INCOMPLETE": "All images claim one SOP Instance UID; archives keep one of them. Export the series again.",
    "SOP_UID_REPEATED": "SOP Instance UIDs repeat from series to series; images are told apart by series and content.",
    "MODALITY_ABSENT": "Modality is absent; the images are judged by their content.",
    "PATIENT_ID_EMPTY": "Patient ID is empty in all objects.",
    "NAME_VARIANT": "The patient's name is spelt in several ways.",
    "STUDY_DATE_SPREAD": "Study dates differ by more than a day.",
    "ACCESSION_VARIANT": "Several accession numbers in one study.",
    "FOR_MISMATCH": "Series have different frames of reference; whether they fit together is checked on the images.",
}

INPUT: dict[str, str] = {
    "UNREADABLE": "Nothing in the input is a readable DICOM object; export the study again.",
    "NOT_FOUND": "The path does not exist; check it.",
    "ARCHIVE_UNSAFE": "An entry of the archive has an unsafe or repeated name or is no plain file; pack the study again.",
    "ARCHIVE_LIMIT": "The archive inflates beyond its limits, has too many entries or holds another archive; send the files as a folder.",
    "TOO_MANY_OBJECTS": "More files than one study can have; hand in one study.",
    "SEVERAL_STUDIES": "The input holds several studies where one was asked for; hand them in one by one.",
    "UID_INVALID": "UIDs of the study are not valid, so no DICOM result can name its source; export with original UIDs.",
}

ALL: dict[str, str] = {**OBJECT, **OBJECT_WARNINGS, **SERIES, **STACK_WARNINGS, **STUDY, **INPUT}


def notice(code: str, series: str | None = None, path: str | None = None, detail: str = "") -> Notice:
    """The notice of a code; `detail` is put before its sentence. KeyError for a code that is not in the catalogue."""
    text = ALL[code]
    return Notice(code, f"{detail}: {text}" if detail else text, series, path)
