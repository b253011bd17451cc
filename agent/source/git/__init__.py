"""Git as a source: work trees and repositories, read from objects. One file each idea; `command` is the one door."""
