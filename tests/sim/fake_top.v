// Stand-in accelerator: copies BURSTS bursts of 16 words from the program's address to that plus
// COPY (taps load and quantize see each word), then reports done. A read error ends it with an
// error. It can be started again.
module lutrip_top (
    input clk,
    input rst,
    input [11:0] s_axil_awaddr,
    input [2:0] s_axil_awprot,
    input s_axil_awvalid,
    output s_axil_awready,
    input [31:0] s_axil_wdata,
    input [3:0] s_axil_wstrb,
    input s_axil_wvalid,
    output s_axil_wready,
    output [1:0] s_axil_bresp,
    output reg s_axil_bvalid,
    input s_axil_bready,
    input [11:0] s_axil_araddr,
    input [2:0] s_axil_arprot,
    input s_axil_arvalid,
    output s_axil_arready,
    output reg [31:0] s_axil_rdata,
    output [1:0] s_axil_rresp,
    output reg s_axil_rvalid,
    input s_axil_rready,
    output m_axi_w0_arid,
    output [39:0] m_axi_w0_araddr,
    output [7:0] m_axi_w0_arlen,
    output [2:0] m_axi_w0_arsize,
    output [1:0] m_axi_w0_arburst,
    output m_axi_w0_arvalid,
    input m_axi_w0_arready,
    input m_axi_w0_rid,
    input [127:0] m_axi_w0_rdata,
    input [1:0] m_axi_w0_rresp,
    input m_axi_w0_rlast,
    input m_axi_w0_rvalid,
    output m_axi_w0_rready,
    output m_axi_write_awid,
    output [39:0] m_axi_write_awaddr,
    output [7:0] m_axi_write_awlen,
    output [2:0] m_axi_write_awsize,
    output [1:0] m_axi_write_awburst,
    output m_axi_write_awvalid,
    input m_axi_write_awready,
    output [127:0] m_axi_write_wdata,
    output [15:0] m_axi_write_wstrb,
    output m_axi_write_wlast,
    output m_axi_write_wvalid,
    input m_axi_write_wready,
    input m_axi_write_bid,
    input [1:0] m_axi_write_bresp,
    input m_axi_write_bvalid,
    output m_axi_write_bready,
    output irq,
    output trace_load_valid,
    output [15:0] trace_load_address,
    output [127:0] trace_load_data,
    output trace_quantize_valid,
    output [15:0] trace_quantize_address,
    output [63:0] trace_quantize_data,
    output [15:0] trace_quantize_nibbles,
    output [8:0] trace_busy,
    output [8:0] trace_waiting,
    output [8:0] trace_completed
);
    parameter BURSTS = 4;
    parameter COPY = 40'h1000;
    reg running, done, error;
    reg [63:0] cycles;
    reg [15:0] requested, words, written, answered;
    reg full;
    reg [39:0] base;
    reg [127:0] held;

    assign s_axil_awready = s_axil_awvalid & s_axil_wvalid & ~s_axil_bvalid;
    assign s_axil_wready = s_axil_awready;
    assign s_axil_arready = ~s_axil_rvalid;
    assign s_axil_bresp = 0;
    assign s_axil_rresp = 0;
    wire start = s_axil_awready & (s_axil_awaddr == CONTROL) & s_axil_wdata[0];

    assign m_axi_w0_arid = 0;
    assign m_axi_w0_araddr = base + {16'd0, requested, 8'd0};
    assign m_axi_w0_arlen = 15;
    assign m_axi_w0_arsize = 4;
    assign m_axi_w0_arburst = 1;
    assign m_axi_w0_arvalid = running & (requested != BURSTS);
    assign m_axi_w0_rready = ~full | m_axi_write_wready;
    wire take = m_axi_w0_rvalid & m_axi_w0_rready;

    reg address_sent;
    assign m_axi_write_awid = 0;
    assign m_axi_write_awaddr = base + COPY + {20'd0, written, 4'd0};
    assign m_axi_write_awlen = 0;
    assign m_axi_write_awsize = 4;
    assign m_axi_write_awburst = 1;
    assign m_axi_write_awvalid = full & ~address_sent;
    assign m_axi_write_wdata = held;
    assign m_axi_write_wstrb = 16'hffff;
    assign m_axi_write_wlast = 1;
    assign m_axi_write_wvalid = full & address_sent;
    assign m_axi_write_bready = 1;

    assign trace_load_valid = take;
    assign trace_load_address = words;
    assign trace_load_data = m_axi_w0_rdata;
    assign trace_quantize_valid = take;
    assign trace_quantize_address = words;
    assign trace_quantize_data = m_axi_w0_rdata[63:0];
    assign trace_quantize_nibbles = words[0] ? 16'haaaa : 16'h5555;
    // Load and store engine; the linear engine is busy from the first word on.
    assign trace_busy = {2'd0, m_axi_write_wvalid, 2'd0, running & (words != 0), 2'd0, running};
    assign trace_waiting = {2'd0, running & (words == 0), 6'd0};
    assign trace_completed = {2'd0, m_axi_write_wvalid & m_axi_write_wready, 5'd0,
                              take & m_axi_w0_rlast};
    assign irq = done | error;

    always @(posedge clk) begin
        if (rst) begin
            running <= 0;
            done <= 0;
            error <= 0;
            cycles <= 0;
            requested <= 0;
            words <= 0;
            written <= 0;
            answered <= 0;
            full <= 0;
            address_sent <= 0;
            s_axil_bvalid <= 0;
            s_axil_rvalid <= 0;
            s_axil_rdata <= 0;
            held <= 0;
            base <= 0;
        end else begin
            if (s_axil_awready) s_axil_bvalid <= 1;
            else if (s_axil_bready) s_axil_bvalid <= 0;
            if (s_axil_arready) s_axil_rvalid <= s_axil_arvalid;
            else if (s_axil_rready) s_axil_rvalid <= 0;
            if (s_axil_arready) case (s_axil_araddr)
                CONFIGURATION: s_axil_rdata <= DIGEST & 64'hffffffff;
                CONFIGURATION + 4: s_axil_rdata <= DIGEST >> 32;
                STATUS: s_axil_rdata <= {29'd0, error, done, running};
                ERRORS: s_axil_rdata <= {30'd0, error, 1'b0};
                CYCLES: s_axil_rdata <= cycles[31:0];
                READ_WORDS: s_axil_rdata <= {16'd0, words};
                default: s_axil_rdata <= 0;
            endcase
            if (s_axil_awready & (s_axil_awaddr == PROGRAM)) base <= {8'd0, s_axil_wdata};
            if (start) begin
                running <= 1;
                done <= 0;
                cycles <= 0;
                requested <= 0;
                words <= 0;
                written <= 0;
                answered <= 0;
            end
            if (running) cycles <= cycles + 1;
            if (m_axi_w0_arvalid & m_axi_w0_arready) requested <= requested + 1;
            if (m_axi_write_awvalid & m_axi_write_awready) address_sent <= 1;
            if (m_axi_write_wvalid & m_axi_write_wready) begin
                full <= 0;
                address_sent <= 0;
                written <= written + 1;
            end
            if (take) begin
                words <= words + 1;
                full <= 1;
                held <= m_axi_w0_rdata;
                if (m_axi_w0_rresp != 0) error <= 1;
            end
            if (m_axi_write_bvalid) begin
                answered <= answered + 1;
                if (m_axi_write_bresp != 0) error <= 1;
                if (answered + 1 == 16 * BURSTS) begin
                    running <= 0;
                    done <= 1;
                end
            end
        end
    end
endmodule
