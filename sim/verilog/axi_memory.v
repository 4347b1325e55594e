// Behavioural external memory: one array, any number of read ports, one write port.
//
// `axi_memory` holds the words and the write port; each `axi_read_port` answers the bursts of one
// read master in order. The testbench is the top module `tb` and calls its memory `memory`, which
// is how the read ports reach the words without wide wires between modules.
//
// `prepare` (one cycle) writes the words of the file patch_RUN.bin, where there is one: records
// {word address 32, word}, most significant byte first. The memory is idle then.
//
// Plusargs: words (words of the image), latency (cycles from an accepted address to its first data
// word, at least 2), outstanding (bursts a port accepts before it answers, 1..64), rate_words and
// rate_cycles (a port moves rate_words words in rate_cycles cycles at most), row_shift and row_miss
// (a read burst that neither follows the one before it nor lies in its row of 2**row_shift words
// begins row_miss cycles behind it), refresh_interval and refresh (no port moves a word in the first
// refresh cycles of every refresh_interval, counted from the start of each program; 0 is never).

module axi_memory #(
    parameter WORD_BITS = 256,
    parameter WORD_SHIFT = 5,
    parameter DEPTH = 4096,
    parameter ADDRESS_BITS = 40,
    parameter ID_BITS = 1
) (
    input clk,
    input rst,
    input prepare,
    input [31:0] run,
    input [ADDRESS_BITS-1:0] awaddr,
    input [7:0] awlen,
    input [2:0] awsize,
    input [1:0] awburst,
    input [ID_BITS-1:0] awid,
    input awvalid,
    output awready,
    input [WORD_BITS-1:0] wdata,
    input [WORD_BITS/8-1:0] wstrb,
    input wlast,
    input wvalid,
    output wready,
    output reg [1:0] bresp,
    output reg [ID_BITS-1:0] bid,
    output reg bvalid,
    input bready,
    output written,
    output [31:0] written_word
);
    reg [WORD_BITS-1:0] words [0:DEPTH-1];
    reg [31:0] limit;
    reg [31:0] latency;
    reg [31:0] outstanding;
    reg [31:0] rate_words;
    reg [31:0] rate_cycles;
    reg [31:0] row_shift;
    reg [31:0] row_miss;
    reg [31:0] refresh_interval;
    reg [31:0] refresh;
    reg [31:0] now;
    reg [31:0] phase;
    integer image, got;

    initial begin
        limit = DEPTH;
        latency = 64;
        outstanding = 16;
        rate_words = 1;
        rate_cycles = 1;
        row_shift = 0;
        row_miss = 0;
        refresh_interval = 0;
        refresh = 0;
        got = $value$plusargs("words=%d", limit);
        got = $value$plusargs("latency=%d", latency);
        got = $value$plusargs("outstanding=%d", outstanding);
        got = $value$plusargs("rate_words=%d", rate_words);
        got = $value$plusargs("rate_cycles=%d", rate_cycles);
        got = $value$plusargs("row_shift=%d", row_shift);
        got = $value$plusargs("row_miss=%d", row_miss);
        got = $value$plusargs("refresh_interval=%d", refresh_interval);
        got = $value$plusargs("refresh=%d", refresh);
        image = $fopen("image.bin", "rb");
        if (image == 0) $display("memory: image.bin is missing");
        else begin
            got = $fread(words, image);
            $fclose(image);
        end
    end

    always @(posedge clk) now <= rst ? 32'd0 : now + 32'd1;
    always @(posedge clk)
        phase <= ~tb.active | (phase + 32'd1 >= refresh_interval) ? 32'd0 : phase + 32'd1;
    wire refreshing = (refresh_interval != 0) & (phase < refresh);

    // Bursts whose data is awaited, and answers that are due.
    reg [31:0] first [0:63];
    reg [ID_BITS-1:0] id [0:63];
    reg [31:0] due [0:63];
    reg [5:0] accepted, filled, answered;
    reg [6:0] bursts, answers;
    reg [7:0] beat;
    reg [31:0] credit;
    reg fault;
    wire take_address = awvalid & awready;
    wire take_data = wvalid & wready;
    wire answer = (answers != 0) & (~bvalid | bready) & ($signed(now - due[answered]) >= 0);
    assign awready = {25'd0, bursts} + {25'd0, answers} < outstanding;
    assign wready = (bursts != 0) & (credit >= rate_cycles) & ~refreshing;
    assign written = take_data;
    assign written_word = first[filled] + {24'd0, beat};

    reg [WORD_BITS+31:0] record;
    reg [8*32-1:0] name;
    integer patch;
    integer i;
    always @(posedge clk) begin
        if (prepare) begin
            $sformat(name, "patch_%0d.bin", run);
            patch = $fopen(name, "rb");
            if (patch != 0) begin
                got = $fread(record, patch);
                while (got == WORD_BITS / 8 + 4) begin
                    words[record[WORD_BITS +: 32]] <= record[WORD_BITS-1:0];
                    got = $fread(record, patch);
                end
                $fclose(patch);
            end
        end
        if (rst) begin
            accepted <= 0;
            filled <= 0;
            answered <= 0;
            bursts <= 0;
            answers <= 0;
            beat <= 0;
            credit <= rate_cycles;
            bvalid <= 0;
            bresp <= 0;
            bid <= 0;
            fault <= 0;
        end else begin
            bursts <= bursts + {6'd0, take_address} - {6'd0, take_data & wlast};
            answers <= answers + {6'd0, take_data & wlast} - {6'd0, answer};
            if (take_data) credit <= credit - rate_cycles + rate_words;
            else if (credit < rate_cycles) credit <= credit + rate_words;
            if (take_address) begin
                first[accepted] <= awaddr[WORD_SHIFT+31:WORD_SHIFT];
                id[accepted] <= awid;
                accepted <= accepted + 6'd1;
                if (awaddr[WORD_SHIFT-1:0] != 0 || awsize != WORD_SHIFT || awburst != 2'd1
                    || {21'd0, awaddr[11:WORD_SHIFT]} + awlen >= 4096 >> WORD_SHIFT) begin
                    $display("memory: write burst at %h breaks a rule of AXI4", awaddr);
                    fault <= 1;
                end
            end
            if (take_data) begin
                beat <= wlast ? 8'd0 : beat + 8'd1;
                if (wlast) begin
                    due[filled] <= now + latency;
                    filled <= filled + 6'd1;
                end
                if (written_word >= limit) begin
                    $display("memory: write of word %0d, beyond %0d words", written_word, limit);
                    fault <= 1;
                end else if (&wstrb) words[written_word] <= wdata;
                else for (i = 0; i < WORD_BITS / 8; i = i + 1)
                    if (wstrb[i]) words[written_word][8*i +: 8] <= wdata[8*i +: 8];
            end
            if (answer) begin
                bvalid <= 1;
                bid <= id[answered];
                bresp <= fault ? 2'd3 : 2'd0;
                answered <= answered + 6'd1;
            end else if (bready) bvalid <= 0;
        end
    end
endmodule

module axi_read_port #(
    parameter WORD_BITS = 256,
    parameter WORD_SHIFT = 5,
    parameter ADDRESS_BITS = 40,
    parameter ID_BITS = 1
) (
    input clk,
    input rst,
    input [ADDRESS_BITS-1:0] araddr,
    input [7:0] arlen,
    input [2:0] arsize,
    input [1:0] arburst,
    input [ID_BITS-1:0] arid,
    input arvalid,
    output arready,
    output reg [WORD_BITS-1:0] rdata,
    output reg [1:0] rresp,
    output reg rlast,
    output reg [ID_BITS-1:0] rid,
    output reg rvalid,
    input rready
);
    reg [31:0] first [0:63];
    reg [7:0] length [0:63];
    reg [ID_BITS-1:0] id [0:63];
    reg [31:0] due [0:63];
    reg [5:0] accepted, answered;
    reg [6:0] bursts;
    reg [7:0] beat;
    reg [31:0] credit;
    reg fault;
    // Word behind the last one that was answered, and cycles since then.
    reg [31:0] following, since;
    wire take_address = arvalid & arready;
    wire last = beat == length[answered];
    wire [31:0] word = first[answered] + {24'd0, beat};
    wire open = (word == following) | (since >= tb.memory.row_miss)
        | ((word ^ (following - 32'd1)) >> tb.memory.row_shift == 0);
    wire answer = (bursts != 0) & (~rvalid | rready) & (credit >= tb.memory.rate_cycles)
        & ($signed(tb.memory.now - due[answered]) >= 0) & open & ~tb.memory.refreshing;
    assign arready = {25'd0, bursts} < tb.memory.outstanding;

    always @(posedge clk) begin
        if (rst) begin
            accepted <= 0;
            answered <= 0;
            bursts <= 0;
            beat <= 0;
            credit <= tb.memory.rate_cycles;
            rvalid <= 0;
            rlast <= 0;
            rresp <= 0;
            rid <= 0;
            // Unknown bits would spread through a four-state simulator.
            rdata <= 0;
            fault <= 0;
            following <= 0;
            since <= ~32'd0;
        end else begin
            if (answer) begin
                following <= word + 32'd1;
                since <= 0;
            end else if (~&since) since <= since + 32'd1;
            if (take_address | (answer & last))
                bursts <= bursts + {6'd0, take_address} - {6'd0, answer & last};
            if (answer) credit <= credit - tb.memory.rate_cycles + tb.memory.rate_words;
            else if (credit < tb.memory.rate_cycles) credit <= credit + tb.memory.rate_words;
            if (take_address) begin
                first[accepted] <= araddr[WORD_SHIFT+31:WORD_SHIFT];
                length[accepted] <= arlen;
                id[accepted] <= arid;
                // The word leaves a register in the cycle after it is due.
                due[accepted] <= tb.memory.now + tb.memory.latency - 32'd1;
                accepted <= accepted + 6'd1;
                if (araddr[WORD_SHIFT-1:0] != 0 || arsize != WORD_SHIFT || arburst != 2'd1
                    || {21'd0, araddr[11:WORD_SHIFT]} + arlen >= 4096 >> WORD_SHIFT) begin
                    $display("memory: %m: read burst at %h breaks a rule of AXI4", araddr);
                    fault <= 1;
                end
            end
            if (answer) begin
                rvalid <= 1;
                rlast <= last;
                rid <= id[answered];
                beat <= last ? 8'd0 : beat + 8'd1;
                if (last) answered <= answered + 6'd1;
                if (word < tb.memory.limit) begin
                    rdata <= tb.memory.words[word];
                    rresp <= 0;
                end else begin
                    if (~fault) $display(
                        "memory: %m: read of word %0d, beyond %0d words", word, tb.memory.limit);
                    rresp <= 2'd3;
                    fault <= 1;
                end
            end else if (rready) rvalid <= 0;
        end
    end
endmodule
