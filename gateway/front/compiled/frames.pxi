@cython.final
cdef class Results:
    """The results of one frame, as result_frames.ResultGroup, and their tensors, as layouts.TensorGroup.

    Whoever reads them as `outputs` gets this object.
    """

    cdef readonly tuple numbers
    cdef readonly object layout
    # The bytes that were received, and where the body of the frame is in them.
    cdef bytes received
    cdef Py_ssize_t start, end
    cdef readonly bint final, first_of_batch, by_row
    cdef readonly uint64_t compute_input_ns, compute_infer_ns, compute_output_ns
    cdef readonly uint32_t batch_rows
    cdef readonly Py_ssize_t count
    cdef const uint64_t *queue
    cdef const uint64_t *each_rows
    # For each tensor: the bytes of a row, or of a member without rows, or -1; where it starts; of strings, the sizes of
    # the members.
    cdef Py_ssize_t units[MAX_INPUTS]
    cdef Py_ssize_t starts[MAX_INPUTS]
    cdef const uint64_t *sizes[MAX_INPUTS]
    cdef public object memo

    @property
    def outputs(self):
        return self

    @property
    def queue_ns(self):
        return tuple([self.queue[index] for index in range(self.count)])

    @property
    def rows(self):
        return tuple([self.each_rows[index] for index in range(self.count)])

    @property
    def offsets(self):
        """See TensorGroup."""
        return [0, *accumulate(self.rows)] if self.by_row else range(self.count + 1)

    cdef inline uint64_t rows_of(self, Py_ssize_t index) noexcept:
        return self.each_rows[index]

    def layout_of(self, Py_ssize_t member):
        return row_layout(self.layout, self.each_rows[member]) if self.by_row else self.layout

    def data(self, Py_ssize_t tensor, Py_ssize_t start, Py_ssize_t stop):
        cdef Py_ssize_t first = self.start + self.start_of(tensor, start)
        return memoryview(self.received)[first : self.start + self.start_of(tensor, stop)]

    cdef Py_ssize_t start_of(self, Py_ssize_t tensor, Py_ssize_t member) noexcept:
        """Where the bytes of a member begin, and those of the one before end."""
        cdef Py_ssize_t unit = self.units[tensor], found = self.starts[tensor], index
        if unit < 0:
            for index in range(member):
                found += self.sizes[tensor][index]
        elif self.by_row:
            for index in range(member):
                found += self.each_rows[index] * unit
        else:
            found += member * unit
        return found

    cdef Py_ssize_t size_of(self, Py_ssize_t tensor, Py_ssize_t member) noexcept:
        """The bytes of a member."""
        cdef Py_ssize_t unit = self.units[tensor]
        if unit < 0:
            return self.sizes[tensor][member]
        return self.each_rows[member] * unit if self.by_row else unit

    cdef char *put(self, char *to, Py_ssize_t tensor, Py_ssize_t member) noexcept:
        """Copy the bytes of a member."""
        cdef Py_ssize_t size = self.size_of(tensor, member)
        memcpy(to, PyBytes_AS_STRING(self.received) + self.start + self.start_of(tensor, member), size)
        return to + size


@cython.final
cdef class Frames:
    """See gateway/engine/frames.py."""

    # The layouts used last, and their bytes.
    cdef object packed_layout
    cdef bytes packed
    # The tensors of `packed_layout` that are strings.
    cdef list strings
    cdef object unpacked_layout
    cdef bytes unpacked
    cdef bint unpacked_by_row

    def __init__(self):
        self.packed = self.unpacked = b""

    def pack(self, list requests):
        cdef list buffers = []
        cdef Py_ssize_t start = 0, stop, count = len(requests)
        cdef Request first, each
        while start < count:
            if not isinstance(requests[start], Request) or (<Request>requests[start]).is_large:
                return buffers + python_frames.pack(requests[start:])
            first = <Request>requests[start]
            stop = start + 1
            if first.buffers is None:  # see the Python code
                start = stop
                continue
            while stop < count and stop - start < MAX_REQUESTS_PER_FRAME and isinstance(requests[stop], Request):
                each = <Request>requests[stop]
                if each.layout is not first.layout or each.buffers is None or first.crashes or each.crashes:
                    break
                if each.is_large:
                    break
                stop += 1
            buffers.append(self.pack_alike(requests, start, stop))
            start = stop
        return buffers

    cdef bytes pack_alike(self, list requests, Py_ssize_t start, Py_ssize_t stop):
        """Pack requests with the same layout into one frame, as request_frames.pack_requests does."""
        cdef Request each = <Request>requests[start]
        self.prepare(each.layout)
        cdef Py_ssize_t count = stop - start, tensors = len(<list>each.buffers), index, tensor, size
        cdef Py_ssize_t strings = len(self.strings)
        cdef Py_ssize_t total = 8 + 32 * count + PyBytes_GET_SIZE(self.packed)
        total += 8 * (strings * count + (strings * count & 1))
        for tensor in range(tensors):
            size = 0
            for index in range(start, stop):
                size += PyBytes_GET_SIZE((<list>(<Request>requests[index]).buffers)[tensor])
            total += size + (-size & 15)
        cdef bytes frame = PyBytes_FromStringAndSize(NULL, 24 + total)
        cdef uint64_t *head = self.put_head(PyBytes_AS_STRING(frame), total, each, count, 0)
        for index in range(count):
            each = <Request>requests[start + index]
            head[index] = each.number
            (<double *>head)[count + index] = each.deadline
            (<int64_t *>head)[2 * count + index] = each.priority
            head[3 * count + index] = each.rows
        cdef char *to = put_bytes(<char *>(head + 4 * count), self.packed)
        if strings:
            head = <uint64_t *>to
            for tensor in self.strings:
                for index in range(start, stop):
                    head[0] = PyBytes_GET_SIZE((<list>(<Request>requests[index]).buffers)[tensor])
                    head += 1
            if strings * count & 1:
                head[0] = 0
                head += 1
            to = <char *>head
        for tensor in range(tensors):
            size = 0
            for index in range(start, stop):
                buffer = (<list>(<Request>requests[index]).buffers)[tensor]
                to = put_bytes(to, buffer)
                size += PyBytes_GET_SIZE(buffer)
            memset(to, 0, -size & 15)
            to += -size & 15
        return frame

    def pack_in_arena(self, queued, list offsets):
        if not isinstance(queued, Request):
            return python_frames.pack_in_arena(queued, offsets)
        cdef Request request = <Request>queued
        self.prepare(request.layout)
        cdef Py_ssize_t strings = len(self.strings), tensor
        cdef Py_ssize_t total = 40 + PyBytes_GET_SIZE(self.packed) + 8 * (strings + (strings & 1) + len(offsets))
        cdef bytes frame = PyBytes_FromStringAndSize(NULL, 24 + total)
        cdef uint64_t *head = self.put_head(PyBytes_AS_STRING(frame), total, request, 1, IN_ARENA)
        head[0], head[2], head[3] = request.number, <uint64_t>request.priority, request.rows
        (<double *>head)[1] = request.deadline
        head = <uint64_t *>put_bytes(<char *>(head + 4), self.packed)
        for tensor in self.strings:
            head[0] = len(request.buffers[tensor])
            head += 1
        if strings & 1:
            head[0] = 0
            head += 1
        for offset in offsets:
            head[0] = offset
            head += 1
        return [frame]

    cdef void prepare(self, layout) except *:
        """Make `packed` and `strings` those of this layout."""
        if layout is not self.packed_layout:
            self.packed, self.packed_layout = pack_layout(layout), layout
            self.strings = [number for number, (_, _, _, bytes_of) in enumerate(layout[2]) if bytes_of < 0]

    cdef uint64_t *put_head(self, char *begin, Py_ssize_t total, Request first, Py_ssize_t count, uint16_t flags):
        """Write what comes before the figures of the requests, and return where these begin."""
        cdef uint64_t *head = <uint64_t *>begin
        head[0] = total
        begin[8], begin[9] = VERSION, INFER
        (<uint16_t *>begin)[5] = (ISOLATED if first.crashes else 0) | flags
        (<uint32_t *>begin)[3] = 0
        head[2] = first.number
        (<uint16_t *>begin)[12], (<uint16_t *>begin)[13] = count, len(self.strings)
        (<uint32_t *>begin)[7] = PyBytes_GET_SIZE(self.packed)
        return head + 4

    def read(self, reader, bytes data):
        """Return the frames that `data` completes, as the Python code does; see there."""
        cdef const char *begin = PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), position = 0, length
        cdef list received = []
        cdef Results found
        if not reader.is_idle:
            return python_frames.read(reader, data)
        while size - position >= 24:
            length = (<const uint64_t *>(begin + position))[0]
            if length < 0 or length > size - position - 24 or <uint8_t>begin[position + 8] != VERSION:
                break
            if <uint8_t>begin[position + 9] != RESULT:
                break
            found = Results.__new__(Results)
            found.received, found.start, found.end = data, position + 24, position + 24 + length
            flags = (<const uint16_t *>(begin + position))[5]
            if flags & IN_RESULT_MEMORY:
                break
            found.final, found.first_of_batch = flags & FINAL != 0, flags & FIRST_OF_BATCH != 0
            if not self.parse(found):
                break
            received.append(found)
            position += 24 + length
        if position < size:
            received += python_frames.read(reader, data[position:])
        return received

    cdef bint parse(self, Results found) except -1:
        """Return False for a frame that the Python code must look at.

        Nothing in the frame is trusted: a worker runs code that its model's author may have written.
        """
        cdef const char *data = PyBytes_AS_STRING(found.received) + found.start
        cdef const uint64_t *head = <const uint64_t *>data
        cdef Py_ssize_t end = found.end - found.start, position, tensor, index, strings = 0
        if end < 40:
            return False
        cdef Py_ssize_t count = (<const uint32_t *>data)[7], length = (<const uint32_t *>data)[9]
        position = 40 + 24 * count + 8 * (count & 1)
        if position + length > end:
            return False
        found.compute_input_ns, found.compute_infer_ns, found.compute_output_ns = head[0], head[1], head[2]
        found.batch_rows, found.count = (<const uint32_t *>data)[6], count
        head += 5
        found.numbers = tuple([head[index] for index in range(count)])
        found.queue, found.each_rows = head + count, head + 2 * count
        if length != PyBytes_GET_SIZE(self.unpacked) or memcmp(data + position, PyBytes_AS_STRING(self.unpacked), length):
            self.unpacked = b""  # unpack_layout may raise
            text = PyBytes_FromStringAndSize(data + position, length)
            self.unpacked_layout = unpack_layout(text)
            self.unpacked_by_row = is_by_row(self.unpacked_layout)
            self.unpacked = text
        found.layout, found.by_row = self.unpacked_layout, self.unpacked_by_row
        position += length
        cdef tuple tensors = <tuple>(<tuple>found.layout)[2]
        if len(tensors) > MAX_INPUTS:
            return False
        for tensor in range(len(tensors)):
            found.units[tensor] = (<tuple>tensors[tensor])[3]
            if found.units[tensor] < 0:
                found.sizes[tensor] = <const uint64_t *>(data + position)
                position += 8 * count
                strings += 1
        position += 8 * (strings * count & 1)
        if position > end or strings != <Py_ssize_t>(<const uint32_t *>data)[8]:
            return False
        for tensor in range(len(tensors)):
            found.starts[tensor] = position
            for index in range(count):
                if found.units[tensor] < 0:
                    if found.sizes[tensor][index] > <uint64_t>end:
                        return False
                elif found.units[tensor] > end or (
                    # Divided, because the product may overflow.
                    found.by_row and found.units[tensor] and found.each_rows[index] > <uint64_t>(end // found.units[tensor])
                ):
                    return False
                position += found.size_of(tensor, index)
                if not 0 <= position <= end:
                    return False
            position += found.starts[tensor] - position & 15
        return True
