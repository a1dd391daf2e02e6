"""HTTP: predictions out, outcomes in, control routes and the dashboard, in front of a `Service`."""

from nearline.serve._access import Tokens
from nearline.serve._app import App
from nearline.serve._messages import Judged, Published
from nearline.serve._server import bound, server
from nearline.serve._service import Limits, Live, Recording, Service

__all__ = ["App", "Judged", "Limits", "Live", "Published", "Recording", "Service", "Tokens", "bound", "server"]
