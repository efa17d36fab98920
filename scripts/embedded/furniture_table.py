"""Models of sweethome3d-furniture that the packed world takes, under plain names; for scripts/pack_world.py.

A model is its library's letter (Z: BlendSwap-CC-0, B: BlendSwap-CC-BY, K: KatorLegaz, S: Scopia) and its number in the
catalogue. `*`: its main material may be given another colour. `@90`: it must be turned so many degrees, counter-clockwise from
above, before its front looks along +x. Names of the procedural toybox (chair, car, sofa ...) stand only for models whose colour
stays, so that "a red chair" keeps one meaning.
"""

LETTERS = {"Z": "BlendSwap-CC-0", "B": "BlendSwap-CC-BY", "K": "KatorLegaz", "S": "Scopia"}

WORLD: dict[str, str] = {
    # animals and toys
    "horse": "Z97 B97", "cat": "S161 B100", "dog": "S162 B89", "chicken": "Z94", "deer": "Z14*", "rabbit": "S205*",
    "teddy bear": "Z51*", "rocking horse": "Z8@90", "doll": "S197", "wooden doll": "Z175", "snowman": "B72", "toy train": "B106@90",
    "puzzle cube": "B69", "dollhouse": "S196",
    # food and drink
    "hamburger": "B96", "hot dog": "Z147", "cupcake": "Z142", "birthday cake": "S128", "bread": "Z90",
    "roast chicken": "S206", "french fries": "S370", "bowl of apples": "S70", "bowl of fruit": "S355",
    "bowl of salad": "S356", "milk carton": "Z53", "milk bottle": "Z64*", "beer bottle": "B6", "wine bottle": "K87",
    "bottle": "S106*", "baby bottle": "Z23*",
    # in the kitchen
    "coffee cup": "Z9*", "paper cup": "B21", "plastic cup": "Z32*", "coffee mug": "K28*@90", "teacup": "S112", "beer mug": "Z89*",
    "wine glass": "B27*", "cocktail glass": "B90*", "teapot": "S123", "kettle": "B8*", "cooking pot": "B43*", "coffee pot": "B93*",
    "coffee maker": "K27* Z111*", "bowl": "S13*", "jug": "S14", "vase": "S41* S42*",
    "toaster": "S395", "mixer": "Z19*", "microwave": "B48*", "kitchen scale": "B76*", "juicer": "S184*",
    "oven": "Z28", "stove": "K86*", "refrigerator": "Z128 K29*", "washing machine": "S131 B65*", "spoon": "B55*",
    # seats
    "armchair": "Z86* Z99 Z139* B95* K47* S25* S69* B87*", "plastic chair": "Z31* S90* K51* Z143* B11*",
    "dining chair": "Z93* Z114* B24* B116 S31* B127* Z125*", "child chair": "B18*",
    "office chair": "K72 S47", "folding chair": "B112* K14*", "bar stool": "Z45 K49* S71*", "stool": "B28*",
    "deck chair": "Z65 B51*", "wheelchair": "B66", "high chair": "S126", "lounge chair": "Z37* K48",
    "couch": "Z132* Z140* B80* B119* K56* K57* S32 S37* S86*", "corner couch": "Z21* Z67*",
    "bench": "K16* K17* K50*", "bean bag": "S145*",
    # tables, beds, cupboards
    "table": "Z27* Z134* B58 S26* S61* K52*",
    "desk": "Z75* S82*", "pool table": "Z33", "ping pong table": "B57",
    "bed": "Z2* Z3 Z88* B77 B31", "crib": "S79", "cradle": "Z87*",
    "bookcase": "B121* S83*", "wardrobe": "Z68 B63*", "dresser": "B75* B130*",
    "safe": "B53*",
    # boxes and bags
    "crate": "Z73*", "barrel": "Z72*", "box": "Z105*", "cardboard box": "S174", "gift": "B26*",
    "suitcase": "B103*", "briefcase": "Z106*", "handbag": "Z120*", "backpack": "B2*", "basket": "S183",
    # light and machines
    "table lamp": "Z15* K42* S55* S56* S57* S65*", "desk lamp": "S48*", "floor lamp": "S87", "chandelier": "Z121*",
    "lantern": "B126", "stone lantern": "Z150* Z167*", "street lamp": "K36*", "flashlight": "K37*",
    "fan": "Z47* Z100", "candle": "S358", "flat tv": "Z22 S40", "laptop": "B99* K71",
    "computer": "K76* S50", "phone": "S120*", "radio": "B52*",
    "camera": "S127 S146", "headphones": "Z69*", "game controller": "S303", "clock": "B20*",
    "keyboard": "K54*", "pinball machine": "S158", "electric guitar": "Z76*", "grand piano": "Z30*",
    "piano": "B50*", "xylophone": "B110",
    # vehicles
    "car": "B94 S59 S170 S249", "sports car": "K59* S250 S168", "sedan": "K60* K61*", "beetle car": "K69", "van": "S251", "small car": "S252",
    "vintage car": "B15*", "truck": "S212 B122 Z158*", "bus": "S361", "motorbike": "S173", "scooter": "K66 S248", "kick scooter": "S182*",
    "bicycle": "B88 S246", "tricycle": "S189", "biplane": "Z10*", "rowboat": "B133*", "forklift": "Z119*@90", "wheelbarrow": "Z138*@-90",
    "spring rider": "Z123*@-90", "stroller": "S187", "skateboard": "S297", "lawn mower": "S204",
    # outdoors
    "fire hydrant": "K79*", "mailbox": "Z25*", "fountain": "B113*", "parasol": "Z60", "umbrella": "Z80*", "tent": "S357*", "doghouse": "S178",
    "playground": "Z109 S7", "swing": "S129", "seesaw": "Z129", "trampoline": "S188*", "traffic cone": "S262*",
    "trash can": "K18* K22* K26*", "recycling bin": "K65*", "fire extinguisher": "Z82*", "bathtub": "B3* S374*",
    "toilet": "Z57* B132*", "fireplace": "S165", "paddling pool": "S171", "hammock": "S373", "ladder": "S185*",
    "basketball hoop": "S152",
    # sport, clothes, tools
    "treadmill": "B107", "basketball": "Z78", "soccer ball": "B71*", "ping pong paddle": "B105*",
    "dartboard": "S155", "helmet": "S239", "sneakers": "S147", "high heels": "S150*", "boots": "Z141*", "slippers": "Z85*", "cap": "S237",
    "hat": "S238*", "sunglasses": "B104*", "glasses": "S115*", "jacket": "B56*",
    "scissors": "Z11*", "hammer": "S264", "drill": "S263", "screwdriver": "S265*", "roll of tape": "S258*",
    "spray bottle": "K23*", "lipstick": "B46*",


    # plants
    "cactus": "Z107", "potted plant": "Z77 S36 B92", "orchid": "Z124", "tulips": "B108",
    "bonsai tree": "S192", "palm tree": "S388", "christmas tree": "B1* S130",
}  # fmt: skip


def instances() -> list[tuple[str, str, int, bool, float]]:
    """Return (kind, library, number, whether it may be recoloured, turn in degrees) of each model."""
    found = []
    for kind, codes in WORLD.items():
        for code in codes.split():
            code, _, turn = code.partition("@")
            mark = code.endswith("*") or turn.endswith("*")
            found.append((kind, LETTERS[code[0]], int(code[1:].rstrip("*")), mark, float(turn.rstrip("*") or 0)))
    return found
