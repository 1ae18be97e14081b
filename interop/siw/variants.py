"""The kinds of siw the guest can load: Debian's driver as it is, and four with a constant or a defect changed.

siw has no module parameters; what one may want to set are constants of `siw_main.c`, so each setting is a module.
"""

from dataclasses import dataclass
from pathlib import Path

from .errors import PreparationError


@dataclass(frozen=True)
class Edit:
    """In `file`, the text `find`, which must occur exactly once, becomes `replace`."""

    file: str
    find: str
    replace: str

    def apply(self, directory: Path) -> None:
        """Edit the source in `directory`; raise `PreparationError` if it is not the source this was written for."""
        path = directory / self.file
        text = path.read_text()
        if (count := text.count(self.find)) != 1:
            raise PreparationError(f"{self.file}: {self.find[:60]!r} occurs {count} times, not once: siw has changed")
        path.write_text(text.replace(self.find, self.replace))


@dataclass(frozen=True)
class Variant:
    """One build of siw: its module's name, why one wants it, and how its source differs from Debian's."""

    name: str
    reason: str
    edits: tuple[Edit, ...] = ()


_EARLY_FPDU = (
    # The reply invites the peer to send, so its FPDUs must find the queue pair's handler already in place.
    Edit(
        "siw_cm.c",
        """\
	siw_dbg_cep(cep, "[QP %u]: send mpa reply, %d byte pdata\\n",
""",
        """\
	if (wait_for_peer_rts)
		siw_sk_assign_rtr_upcalls(cep);
	else
		siw_qp_socket_assoc(cep, qp);

	siw_dbg_cep(cep, "[QP %u]: send mpa reply, %d byte pdata\\n",
""",
    ),
    Edit(
        "siw_cm.c",
        """\
	if (wait_for_peer_rts) {
		siw_sk_assign_rtr_upcalls(cep);
	} else {
		siw_qp_socket_assoc(cep, qp);
		rv = siw_cm_upcall(cep, IW_CM_EVENT_ESTABLISHED, 0);
""",
        """\
	if (!wait_for_peer_rts) {
		rv = siw_cm_upcall(cep, IW_CM_EVENT_ESTABLISHED, 0);
""",
    ),
)

_SPLIT_TRAILER = (
    # The rest of a trailer belongs behind the part that came before, not over it.
    Edit(
        "siw_qp_rx.c",
        "	skb_copy_bits(skb, srx->skb_offset, tbuf, avail);",
        "	tbuf += srx->pad + MPA_CRC_SIZE - srx->fpdu_part_rem;\n"
        "	skb_copy_bits(skb, srx->skb_offset, tbuf, avail);\n"
        "	tbuf = (u8 *)&srx->trailer.crc - srx->pad;",
    ),
)

VARIANTS = (
    Variant("siw", "the driver as Debian ships its source: what a user's peer runs"),
    Variant(
        "siw_fix",
        "two repairs that leave the wire format alone: the first FPDU behind the MPA reply is not overlooked, and "
        "padding and CRC that arrive in two segments are put together rightly",
        _EARLY_FPDU + _SPLIT_TRAILER,
    ),
    Variant(
        "siw_p2p",
        "as initiator asks for the peer-to-peer model of RFC 6581 and offers both RTR frames",
        (Edit("siw_main.c", "const bool peer_to_peer;", "const bool peer_to_peer = true;"),),
    ),
    Variant(
        "siw_crc",
        "as initiator asks for CRC and refuses a reply without it",
        (Edit("siw_main.c", "const bool mpa_crc_required;", "const bool mpa_crc_required = true;"),),
    ),
    Variant(
        "siw_v1",
        "as initiator speaks MPA revision 1 (RFC 5044) and not the enhanced set-up of RFC 6581",
        (Edit("siw_main.c", "mpa_version = MPA_REVISION_2;", "mpa_version = MPA_REVISION_1;"),),
    ),
)

NAMES = tuple(variant.name for variant in VARIANTS)
