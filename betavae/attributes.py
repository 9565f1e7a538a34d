"""What a person calls each direction, and where its slider stands. Plain data, for any front end."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Attribute:
    """``label`` is what a person says, ``group`` a key of GROUPS, ``primary`` whether its slider shows without "more"."""

    label: str
    group: str
    primary: bool = False


GROUPS = ("Expression", "Pose", "Hair", "Face", "Accessories", "Light and background")

ATTRIBUTES = {
    "Smiling": Attribute("Smile", "Expression", True),
    "mouth_open": Attribute("Mouth open", "Expression", True),
    "eye_open": Attribute("Eyes open", "Expression", True),
    "High_Cheekbones": Attribute("High cheekbones", "Expression"),
    "Mouth_Slightly_Open": Attribute("Lips parted", "Expression"),
    "Narrow_Eyes": Attribute("Narrow eyes", "Expression"),
    "yaw": Attribute("Turn head", "Pose", True),
    "pitch": Attribute("Nod", "Pose", True),
    "Blond_Hair": Attribute("Blond hair", "Hair", True),
    "Black_Hair": Attribute("Black hair", "Hair", True),
    "Bangs": Attribute("Bangs", "Hair", True),
    "Bald": Attribute("Bald", "Hair", True),
    "Brown_Hair": Attribute("Brown hair", "Hair"),
    "Gray_Hair": Attribute("Grey hair", "Hair"),
    "Receding_Hairline": Attribute("Receding hairline", "Hair"),
    "Straight_Hair": Attribute("Straight hair", "Hair"),
    "Wavy_Hair": Attribute("Wavy hair", "Hair"),
    "Sideburns": Attribute("Sideburns", "Hair"),
    "Young": Attribute("Younger", "Face", True),
    "Male": Attribute("Masculine", "Face", True),
    "Pale_Skin": Attribute("Pale skin", "Face", True),
    "Heavy_Makeup": Attribute("Make-up", "Face", True),
    "No_Beard": Attribute("Clean-shaven", "Face", True),
    "Chubby": Attribute("Chubby", "Face"),
    "Double_Chin": Attribute("Double chin", "Face"),
    "Oval_Face": Attribute("Oval face", "Face"),
    "Big_Lips": Attribute("Full lips", "Face"),
    "Big_Nose": Attribute("Big nose", "Face"),
    "Pointy_Nose": Attribute("Pointed nose", "Face"),
    "Arched_Eyebrows": Attribute("Arched eyebrows", "Face"),
    "Bushy_Eyebrows": Attribute("Bushy eyebrows", "Face"),
    "Bags_Under_Eyes": Attribute("Bags under the eyes", "Face"),
    "Rosy_Cheeks": Attribute("Rosy cheeks", "Face"),
    "Mustache": Attribute("Moustache", "Face"),
    "Goatee": Attribute("Goatee", "Face"),
    "5_o_Clock_Shadow": Attribute("Stubble", "Face"),
    "Attractive": Attribute("Labelled attractive", "Face"),
    "Eyeglasses": Attribute("Glasses", "Accessories", True),
    "Wearing_Hat": Attribute("Hat", "Accessories", True),
    "Wearing_Lipstick": Attribute("Lipstick", "Accessories", True),
    "Wearing_Earrings": Attribute("Earrings", "Accessories"),
    "Wearing_Necklace": Attribute("Necklace", "Accessories"),
    "Wearing_Necktie": Attribute("Necktie", "Accessories"),
    "background_brightness": Attribute("Background brightness", "Light and background", True),
    "background_warmth": Attribute("Background warmth", "Light and background", True),
    "face_brightness": Attribute("Face brightness", "Light and background", True),
    "light_side": Attribute("Light from the left", "Light and background", True),
    "background_tint": Attribute("Background tint", "Light and background"),
    "Blurry": Attribute("Blurred", "Light and background"),
}

# Compound edits by percentile among the training faces: from 50 up at least, below it at most.
PRESETS = {
    "Older": {"Young": 3, "Gray_Hair": 90},
    "Younger": {"Young": 97, "Gray_Hair": 10},
    "Big laugh": {"Smiling": 98, "mouth_open": 92},
    "Movie star": {"Smiling": 85, "Heavy_Makeup": 90, "face_brightness": 80},
    "On stage light": {"background_brightness": 3, "face_brightness": 80, "light_side": 93},
    "Daylight": {"background_brightness": 95, "face_brightness": 70, "background_warmth": 35},
}


def attribute(name: str) -> Attribute:
    """The entry of a direction; one that has none is shown under its own name, in the last group, without "more"."""
    return ATTRIBUTES.get(name) or Attribute(name.replace("_", " "), GROUPS[-1], True)
