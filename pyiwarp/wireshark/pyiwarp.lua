-- pyiwarp's additions to Wireshark's iWARP dissectors: written by `pyiwarp wireshark --install`, see docs/wireshark.md
--
-- Wireshark reads MPA, DDP and RDMAP itself. This post-dissector adds a tree of its own below theirs: the enhanced word
-- of MPA revision 2 (RFC 6581 §9), Immediate Data (RFC 7306 §6), and the two protocols of pyiwarp above RDMAP, its file
-- service and rsockets. It reads nothing that Wireshark has not found, and changes nothing but the info column.

local VERSION = "1"
local ENHANCED = 4 -- octets of the enhanced word
local RSOCKETS_HELLO = 40 -- octets of the private data of rsockets
local FILES_HELLO = "pyiwarp files 1"
local TAGGED_HEADER, UNTAGGED_HEADER = 14, 18
local SENDS = { [3] = true, [4] = true, [5] = true, [6] = true }
local IMMEDIATE, IMMEDIATE_SE = 8, 9

local proto = Proto("pyiwarp", "pyiwarp: iWARP's newer messages and pyiwarp's protocols")

local OPCODES = { [8] = "Immediate Data", [9] = "Immediate Data with Solicited Event" }
local OPS = { [0] = "DATA", [4] = "SGL", [6] = "IOMAP", [7] = "CTRL" }
local CONTROLS = { [0] = "disconnect", [1] = "keepalive", [2] = "shutdown" }

local f = {
    s = ProtoField.bool("pyiwarp.mpa.enhanced", "S: an enhanced word comes first (RFC 6581 §6)"),
    word = ProtoField.uint32("pyiwarp.mpa.word", "Enhanced word (RFC 6581 §9)", base.HEX),
    a = ProtoField.bool("pyiwarp.mpa.peer_to_peer", "A: peer-to-peer mode", 32, nil, 0x80000000),
    b = ProtoField.bool("pyiwarp.mpa.rtr_send", "B: opens with an empty Send", 32, nil, 0x40000000),
    ird = ProtoField.uint32("pyiwarp.mpa.ird", "IRD", base.DEC, nil, 0x3FFF0000),
    c = ProtoField.bool("pyiwarp.mpa.rtr_write", "C: opens with an empty Write", 32, nil, 0x00008000),
    d = ProtoField.bool("pyiwarp.mpa.rtr_read", "D: opens with an empty Read", 32, nil, 0x00004000),
    ord = ProtoField.uint32("pyiwarp.mpa.ord", "ORD", base.DEC, nil, 0x00003FFF),
    private = ProtoField.bytes("pyiwarp.mpa.private_data", "Private Data behind the word"),
    message = ProtoField.string("pyiwarp.message", "Message"),
    immediate = ProtoField.bytes("pyiwarp.immediate_data", "Immediate Data (RFC 7306 §6.2)"),
    service = ProtoField.string("pyiwarp.service", "Protocol above RDMAP"),
    files = ProtoField.string("pyiwarp.files.message", "File service message"),
    op = ProtoField.string("pyiwarp.files.op", "op"),
    word_op = ProtoField.string("pyiwarp.rsockets.op", "rsockets word"),
    word_value = ProtoField.uint32("pyiwarp.rsockets.value", "Value", base.DEC),
    credits = ProtoField.uint16("pyiwarp.rsockets.credits", "Credits", base.DEC),
    sgl = ProtoField.string("pyiwarp.rsockets.target_sgl", "Target SGL"),
    buffer = ProtoField.string("pyiwarp.rsockets.data_buffer", "Data buffer"),
}
proto.fields = f

local cut = ProtoExpert.new("pyiwarp.cut", "The octets end before the message does", expert.group.MALFORMED, expert.severity.WARN)
proto.experts = { cut }

local in_stream = Field.new("tcp.stream")
local source_port = Field.new("tcp.srcport")
local request, reply = Field.new("iwarp_mpa.req"), Field.new("iwarp_mpa.rep")
local revision, reserved = Field.new("iwarp_mpa.rev"), Field.new("iwarp_mpa.res")
local private_data = Field.new("iwarp_mpa.privatedata")
local lengths = Field.new("iwarp_mpa.ulpdulength")
local headers = Field.new("iwarp_ddp")
local opcodes = Field.new("iwarp_rdma.opcode")
local tagged_flags = Field.new("iwarp_ddp.tagged_flag")

local streams = {} -- by TCP stream: the protocol above RDMAP, and the byte order of each port's words

function proto.init()
    streams = {}
end

local function memory(range)
    return string.format(
        "TO 0x%s, STag 0x%08x, %d", tostring(range:range(0, 8):bytes()):lower(), range:range(8, 4):uint(), range:range(12, 4):uint()
    )
end

-- The protocol that private data belong to, nil if it is none of pyiwarp's.
local function service_of(range)
    if range == nil then
        return nil
    end
    if range:len() >= #FILES_HELLO and range:range(0, #FILES_HELLO):string() == FILES_HELLO then
        return "pyiwarp file service"
    end
    if range:len() == RSOCKETS_HELLO and range:range(0, 1):uint() == 1 and range:range(1, 1):uint() < 4 then
        return "rsockets"
    end
    return nil
end

local function startup(tree, stream, port)
    local private = private_data()
    local range = private and private.range
    local enhanced = bit.band(reserved().value, 0x10) ~= 0 and revision().value > 1
    if enhanced then
        tree:add(f.s, true):set_generated()
        if range == nil or range:len() < ENHANCED then
            tree:add_proto_expert_info(cut)
            return
        end
        local word = range:range(0, ENHANCED)
        local below = tree:add(f.word, word)
        for _, each in ipairs({ f.a, f.b, f.ird, f.c, f.d, f.ord }) do
            below:add(each, word)
        end
        range = range:len() > ENHANCED and range:range(ENHANCED) or nil
        if range ~= nil then
            tree:add(f.private, range)
        end
    end
    local service = service_of(range)
    if service == nil then
        return
    end
    streams[stream] = streams[stream] or {}
    streams[stream].service = service
    tree:add(f.service, service):set_generated()
    if service == "rsockets" then
        streams[stream][port] = bit.band(range:range(1, 1):uint(), 1) ~= 0 and "big" or "little"
        tree:add(f.credits, range:range(2, 2))
        tree:add(f.sgl, range:range(8, 16), memory(range:range(8, 16)) .. " entries")
        tree:add(f.buffer, range:range(24, 16), memory(range:range(24, 16)) .. " octets")
    end
end

-- The tree of this dissector in a packet, which is there only when something is in it.
local function Tree(root)
    local made
    return setmetatable({}, {
        __index = function(_, name)
            return function(_, ...)
                made = made or root:add(proto)
                return made[name](made, ...)
            end
        end,
    })
end

-- What a Send of one of pyiwarp's protocols says; for the info column in the end.
local function send(tree, known, port, payload)
    if known.service == "pyiwarp file service" then
        local text = payload:string()
        local op = text:match('"op"%s*:%s*"(%a+)"')
        tree:add(f.files, payload, text)
        if op ~= nil then
            tree:add(f.op, payload, op)
        end
        return op and "file service: " .. op
    end
    if payload:len() ~= 4 then
        return nil
    end
    local word = known[port] == "big" and payload:uint() or payload:le_uint()
    local op, value = OPS[bit.rshift(word, 29)] or "unknown", bit.band(word, 0x1FFFFFFF)
    tree:add(f.word_op, payload, op)
    tree:add(f.word_value, payload, value)
    return "rsockets: " .. op .. " " .. (op == "CTRL" and CONTROLS[value] or value)
end

local function segment(tree, known, port, header, length, opcode, is_tagged)
    local from = header.offset + (is_tagged and TAGGED_HEADER or UNTAGGED_HEADER)
    local size = header.offset + length - from
    local left = header.source:len() - from
    local payload = size > 0 and left >= size and header.source:range(from, size) or nil
    if OPCODES[opcode] ~= nil then
        tree:add(f.message, OPCODES[opcode]):set_generated()
        if payload ~= nil and size >= 8 then
            tree:add(f.immediate, payload:range(0, 8))
        else
            tree:add_proto_expert_info(cut)
        end
        return payload ~= nil and "data " .. tostring(payload:bytes()):lower() or "no data"
    end
    if known ~= nil and known.service ~= nil and SENDS[opcode] and payload ~= nil then
        return send(tree, known, port, payload)
    end
    return nil
end

function proto.dissector(buffer, pinfo, root)
    local stream, port = in_stream(), source_port()
    if stream == nil then
        return
    end
    stream, port = stream.value, port.value
    local frame = request() or reply()
    local found, sizes = { headers() }, { lengths() }
    if frame == nil and #found == 0 then
        return
    end
    local tree = Tree(root)
    local told = {}
    if frame ~= nil and revision() ~= nil and reserved() ~= nil then
        startup(tree, stream, port)
    end
    local codes, flags = { opcodes() }, { tagged_flags() }
    if #found == #codes and #found == #sizes and #found == #flags then
        for number, header in ipairs(found) do
            local said = segment(tree, streams[stream], port, header, sizes[number].value, codes[number].value, flags[number].value)
            if said ~= nil then
                told[#told + 1] = said
            end
        end
    end
    if #told > 0 then
        local info = tostring(pinfo.cols.info):gsub("Unknown 8", OPCODES[IMMEDIATE]):gsub("Unknown 9", OPCODES[IMMEDIATE_SE])
        pinfo.cols.info = info .. " {" .. table.concat(told, "; ") .. "}"
    end
end

register_postdissector(proto)
set_plugin_info({ version = VERSION, description = "pyiwarp: iWARP's newer messages", repository = "", author = "The pyiwarp authors" })
