"""Names of the classes of published sets, in the order of their indices."""

# In the order of the alphabet, as they are stored.
VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow"),
    *("diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa"),
    *("train", "tvmonitor"),
)

# In the order of the categories in instances_train2014.json.
COCO = (
    *("person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    *("traffic light", "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat"),
    *("dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe", "backpack"),
    *("umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard", "sports ball"),
    *("kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket"),
    *("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple"),
    *("sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair"),
    *("couch", "potted plant", "bed", "dining table", "toilet", "tv", "laptop", "mouse"),
    *("remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator"),
    *("book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)

# In the order of Concepts81.txt, which is that of the columns.
NUS_WIDE = (
    *("airport", "animal", "beach", "bear", "birds", "boats", "book", "bridge", "buildings"),
    *("cars", "castle", "cat", "cityscape", "clouds", "computer", "coral", "cow", "dancing"),
    *("dog", "earthquake", "elk", "fire", "fish", "flags", "flowers", "food", "fox", "frost"),
    *("garden", "glacier", "grass", "harbor", "horses", "house", "lake", "leaf", "map"),
    *("military", "moon", "mountain", "nighttime", "ocean", "person", "plane", "plants"),
    *("police", "protest", "railroad", "rainbow", "reflection", "road", "rocks", "running"),
    *("sand", "sign", "sky", "snow", "soccer", "sports", "statue", "street", "sun", "sunset"),
    *("surf", "swimmers", "tattoo", "temple", "tiger", "tower", "town", "toy", "train", "tree"),
    *("valley", "vehicle", "water", "waterfall", "wedding", "whales", "window", "zebra"),
)
