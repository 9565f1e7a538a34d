"""The label and the place of each direction's slider. Plain data, for any front end."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attribute:
    """``label`` is shown to people, ``group`` is one of GROUPS, ``primary`` says whether the slider shows at first.

    ``words`` are further search terms. A direction that is not ``listed`` is in code and the API, but not on the page.
    """

    label: str
    group: str
    primary: bool = False
    words: str = ""
    listed: bool = True


GROUPS = ("Expression", "Pose", "Hair", "Face", "Accessories", "Light and background")

ATTRIBUTES = {
    "Smiling": Attribute("Smile", "Expression", True, "happy laugh grin sad"),
    "mouth_open": Attribute("Mouth open", "Expression", True, "teeth laugh"),
    "eye_open": Attribute("Eyes open", "Expression", True, "eyes closed blink"),
    "High_Cheekbones": Attribute("High cheekbones", "Expression"),
    "Mouth_Slightly_Open": Attribute("Lips parted", "Expression", words="teeth"),
    "Narrow_Eyes": Attribute("Narrow eyes", "Expression", words="squint"),
    "yaw": Attribute("Turn head", "Pose", True, "left right rotate profile"),
    "pitch": Attribute("Nod", "Pose", True, "up down tilt chin"),
    "Blond_Hair": Attribute("Blond hair", "Hair", True, "blonde colour color"),
    "Black_Hair": Attribute("Black hair", "Hair", words="dark colour color"),
    "Bangs": Attribute("Bangs", "Hair", True, "fringe"),
    "Bald": Attribute("Bald", "Hair", words="hair loss"),
    "Brown_Hair": Attribute("Brown hair", "Hair", words="brunette colour color"),
    "Gray_Hair": Attribute("Grey hair", "Hair", words="gray old age colour color"),
    "Receding_Hairline": Attribute("Receding hairline", "Hair", words="forehead"),
    "Straight_Hair": Attribute("Straight hair", "Hair"),
    "Wavy_Hair": Attribute("Wavy hair", "Hair", words="curly curls"),
    "Sideburns": Attribute("Sideburns", "Hair", words="beard facial hair"),
    "Young": Attribute("Younger", "Face", True, "age old older aging wrinkles elderly"),
    "Male": Attribute("Masculine", "Face", True, "gender sex man woman male female feminine"),
    "Pale_Skin": Attribute("Pale skin", "Face", words="skin tone complexion"),
    "Heavy_Makeup": Attribute("Make-up", "Face", words="makeup cosmetics"),
    "No_Beard": Attribute("Clean-shaven", "Face", True, "beard shave facial hair"),
    "Chubby": Attribute("Chubby", "Face", words="fat weight round"),
    "Double_Chin": Attribute("Double chin", "Face", words="weight"),
    "Oval_Face": Attribute("Oval face", "Face"),
    "Big_Lips": Attribute("Full lips", "Face"),
    "Big_Nose": Attribute("Big nose", "Face"),
    "Pointy_Nose": Attribute("Pointed nose", "Face"),
    "Arched_Eyebrows": Attribute("Arched eyebrows", "Face"),
    "Bushy_Eyebrows": Attribute("Bushy eyebrows", "Face"),
    "Bags_Under_Eyes": Attribute("Bags under the eyes", "Face", words="tired wrinkles old age"),
    "Rosy_Cheeks": Attribute("Rosy cheeks", "Face", words="blush"),
    "Mustache": Attribute("Moustache", "Face", words="mustache beard facial hair"),
    "Goatee": Attribute("Goatee", "Face", words="beard facial hair"),
    "5_o_Clock_Shadow": Attribute("Stubble", "Face", words="beard facial hair shadow"),
    "Attractive": Attribute("Labelled attractive", "Face", listed=False),
    "Eyeglasses": Attribute("Glasses", "Accessories", True, "eyeglasses spectacles sunglasses"),
    "Wearing_Hat": Attribute("Hat", "Accessories", words="cap"),
    "Wearing_Lipstick": Attribute("Lipstick", "Accessories"),
    "Wearing_Earrings": Attribute("Earrings", "Accessories"),
    "Wearing_Necklace": Attribute("Necklace", "Accessories"),
    "Wearing_Necktie": Attribute("Necktie", "Accessories", words="tie"),
    "background_brightness": Attribute("Background brightness", "Light and background", True, "light dark"),
    "background_warmth": Attribute("Background warmth", "Light and background", words="colour color"),
    "face_brightness": Attribute("Face brightness", "Light and background", words="light dark exposure"),
    "light_side": Attribute("Light from the left", "Light and background", words="lighting shadow right"),
    "background_tint": Attribute("Background tint", "Light and background", words="colour color green"),
    "Blurry": Attribute("Blurred", "Light and background", words="sharp focus"),
}

# Compound edits by percentile among the training faces: from 50 up at least, below it at most.
PRESETS = {
    "Older": {"Young": 3, "Gray_Hair": 90, "Bags_Under_Eyes": 85},
    "Younger": {"Young": 97, "Gray_Hair": 10},
    "Big laugh": {"Smiling": 98, "mouth_open": 92},
    "Movie star": {"Smiling": 85, "Heavy_Makeup": 90, "face_brightness": 80},
    "On stage light": {"background_brightness": 3, "face_brightness": 80, "light_side": 93},
    "Daylight": {"background_brightness": 95, "face_brightness": 70, "background_warmth": 35},
}


def attribute(name: str) -> Attribute:
    """The entry of a direction. One without an entry is shown under its own name, in the last group, at first."""
    return ATTRIBUTES.get(name) or Attribute(name.replace("_", " "), GROUPS[-1], True)
