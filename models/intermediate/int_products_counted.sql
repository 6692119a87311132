with

{% if var('pair_engine') == 'dask' %}

counted as (

    select
        product_id,
        basket_count
    from {{ ref('stg_product_keys') }}

)

{% else %}

line_items as (

    select
        order_id,
        product_id
    from {{ ref('int_line_items_kept') }}

),

counted as (

    select
        product_id,
        count(distinct order_id) as basket_count
    from line_items
    group by product_id

)

{% endif %}

select * from counted
