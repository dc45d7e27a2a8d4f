"""Does training keep its promises? One file a family of promises; `make reliability` tries them all."""
