"""What a network sees, for people: filters, feature maps, what a class rests on, and what one unit looks at.

One idea a file. `stages` names the feature maps; `filters`, `grad_cam`, `occlusion`, `receptive_field`,
`effective_field`, `exciting` and `layers` compute, from a network in evaluation mode and normalised images, and can be
called from a notebook. `drawing` makes pictures of their results, `report` asks for all of them, and `page` writes one
page of HTML.
"""
