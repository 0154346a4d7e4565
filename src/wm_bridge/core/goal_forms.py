"""The words in which a goal can be given; ``core.goal_text`` reads them."""

FORMS = "FILE.png[,FILE2.png ...] | joints:NAME=RAD[,NAME=RAD ...] | pose:X,Y,Z[,QX,QY,QZ,QW] | bag:FILE@SECONDS[@TOPIC]"
