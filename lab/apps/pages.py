"""The product page as HTML, with the parts its users look for: stars, colours and the texts of failures."""

from __future__ import annotations

from html import escape
from typing import Any

NO_RATINGS = "Ratings service is currently unavailable"
NO_REVIEWS = "Sorry, product reviews are currently unavailable for this book."
NO_DETAILS = "Sorry, product details are currently unavailable for this book."

PRODUCT = {
    "id": 0,
    "title": "The Comedy of Errors",
    "descriptionHtml": "A farce by William Shakespeare about two pairs of twins, parted at birth.",
}
_DETAIL_NAMES = ("type", "pages", "publisher", "language", "ISBN-10", "ISBN-13")

Json = dict[str, Any]


def _stars(rating: Json) -> str:
    if "error" in rating:
        return f'<p class="rating-error"><i>{escape(rating["error"])}</i></p>'
    full = int(rating["stars"])
    glyphs = ["glyphicon-star"] * full + ["glyphicon-star-empty"] * (5 - full)
    icons = "".join(f'<span class="glyphicon {glyph}"></span>' for glyph in glyphs)
    return f'<font color="{escape(str(rating["color"]))}">{icons}</font>'


def _review(review: Json) -> str:
    stars = _stars(review["rating"]) if "rating" in review else ""
    quote = f"<p>{escape(review['text'])}</p><small>{escape(review['reviewer'])}</small>"
    return f"<blockquote>{quote}{stars}</blockquote>"


def product_page(details: tuple[int, Json], reviews: tuple[int, Json], user: str | None) -> bytes:
    """The page for the answers (status, JSON) of details and reviews; a failed one becomes its text."""
    status, book = details
    if status == 200:
        rows = "".join(f"<dt>{name}</dt><dd>{escape(str(book.get(name, '')))}</dd>" for name in _DETAIL_NAMES)
        left = f"<h4>Book Details</h4><dl>{rows}</dl>"
    else:
        left = f"<h4>Error fetching product details!</h4><p>{escape(book.get('error', NO_DETAILS))}</p>"
    status, found = reviews
    if status == 200:
        right = "<h4>Book Reviews</h4>" + "\n".join(_review(review) for review in found["reviews"])
    else:
        right = f"<h4>Error fetching product reviews!</h4><p>{escape(found.get('error', NO_REVIEWS))}</p>"
    greeting = f"<p>{escape(user)}</p>" if user else ""
    title = escape(str(PRODUCT["title"]))
    page = f"""<!DOCTYPE html>
<html><head><meta charset="utf-8"><title>Simple Bookstore App</title></head><body>{greeting}
<h3>{title}</h3><p>{escape(str(PRODUCT["descriptionHtml"]))}</p>
<div id="details">{left}</div>
<div id="reviews">{right}</div>
</body></html>
"""
    return page.encode()


INDEX_PAGE = (
    b"<!DOCTYPE html><html><head><title>Simple Bookstore App</title></head><body><h3>Bookinfo</h3>"
    b'<p><a href="/productpage?u=normal">Normal user</a> <a href="/productpage?u=test">Test user</a></p></body></html>'
)
